import type pg from "pg";
import type { Stack } from "../stack.ts";
import type { Turn } from "../text.ts";
import { connect, type Message, messagesOf, type Peer, Statement } from "./peer.ts";

/**
 * The whole chat in one JSONB value, as the AI SDK's guide to message persistence stores it (loadChat, saveChat): a
 * turn loads the chat and writes it again.
 */
export class Jsonb implements Peer {
  readonly name = "JSONB upsert";
  readonly tables = ["bench.chats"];
  readonly #pool: pg.Pool;
  readonly #load;
  readonly #save;
  readonly #fork;
  readonly #remove;

  constructor({ dbUrl }: Stack) {
    this.#pool = connect(dbUrl);
    this.#load = new Statement<{ messages: Message[] }>(this.#pool, "select messages from bench.chats where id = $1");
    this.#save = new Statement(
      this.#pool,
      `insert into bench.chats (id, messages) values ($1, $2)
       on conflict (id) do update set messages = excluded.messages, updated_at = now()`,
    );
    this.#fork = new Statement(
      this.#pool,
      "insert into bench.chats (id, messages) select gen_random_uuid(), messages from bench.chats where id = $1",
    );
    this.#remove = new Statement(this.#pool, "delete from bench.chats where id = $1");
  }

  async setUp(): Promise<void> {
    await this.#pool.query(
      `create table bench.chats (
         id uuid primary key,
         messages jsonb not null,
         updated_at timestamptz not null default now()
       )`,
    );
  }

  async create(history: Message[] = []): Promise<string> {
    const id = crypto.randomUUID();
    await this.#save.run(id, JSON.stringify(history));
    return id;
  }

  async append(id: string, turn: Turn): Promise<void> {
    await this.#save.run(
      id,
      JSON.stringify([...await this.loadAll(id), ...messagesOf(turn)]),
    );
  }

  async loadAll(id: string): Promise<Message[]> {
    const [{ messages }] = await this.#load.run(id);
    return messages;
  }

  async loadLast(id: string, count: number): Promise<Message[]> {
    return (await this.loadAll(id)).slice(-count);
  }

  async fork(id: string): Promise<void> {
    await this.#fork.run(id);
  }

  async remove(id: string): Promise<void> {
    await this.#remove.run(id);
  }

  async fill(admin: pg.Pool, rows: number, texts: string[]): Promise<void> {
    await admin.query(
      `insert into bench.chats (id, messages)
       select gen_random_uuid(), (
         select jsonb_agg(jsonb_build_object(
           'role', (array['assistant', 'user'])[1 + n % 2],
           'content', ($2::text[])[1 + (chat * 20 + n) % cardinality($2::text[])]
         ))
         from generate_series(1, 20) n
       )
       from generate_series(1, $1::integer / 20) chat`,
      [rows, texts],
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool.end();
  }
}
