import type pg from "pg";
import type { Stack } from "../stack.ts";
import type { Turn } from "../text.ts";
import { connect, type Message, messagesOf, type Peer, Statement } from "./peer.ts";

export const toItem = ({ role, content }: Message) => ({
  type: "message",
  role,
  content: [{
    type: role === "user" ? "input_text" : "output_text",
    text: content,
  }],
});
export type Item = ReturnType<typeof toItem>;

export const fromItem = ({ role, content: [{ text }] }: Item): Message => ({ role, content: text });

/**
 * Plano's store of the Responses API, after katanemo/plano: crates/brightstaff/src/state/postgresql.rs (statements) and
 * docs/source/resources/db_setup/conversation_states.sql (columns, key, indexes). Each response stores the whole
 * history again under its own id, and the next one names it as previous_response_id: a turn is a read and an upsert.
 */
export class Plano implements Peer {
  readonly name = "Plano";
  readonly tables = ["bench.conversation_states"];
  readonly #pool: pg.Pool;
  readonly #get;
  readonly #put;
  readonly #remove;
  /** What a client holds: the id of the newest response. */
  readonly #newest = new Map<string, string>();

  constructor({ dbUrl }: Stack) {
    this.#pool = connect(dbUrl);
    this.#get = new Statement<{ input_items: Item[] }>(
      this.#pool,
      `select response_id, input_items, created_at, model, provider
       from bench.conversation_states where response_id = $1`,
    );
    this.#put = new Statement(
      this.#pool,
      `insert into bench.conversation_states (response_id, input_items, created_at, model, provider, updated_at)
       values ($1, $2, $3, $4, $5, now())
       on conflict (response_id) do update set
         input_items = excluded.input_items, model = excluded.model, provider = excluded.provider, updated_at = now()`,
    );
    this.#remove = new Statement(this.#pool, "delete from bench.conversation_states where response_id = $1");
  }

  async setUp(): Promise<void> {
    await this.#pool.query(
      `create table bench.conversation_states (
         response_id text primary key,
         input_items jsonb not null,
         created_at bigint not null,
         model text not null,
         provider text not null,
         updated_at timestamp default now()
       );
       create index on bench.conversation_states (created_at);
       create index on bench.conversation_states (provider)`,
    );
  }

  async create(history: Message[] = []): Promise<string> {
    const id = crypto.randomUUID();
    await this.#store(id, history.map(toItem));
    return id;
  }

  async append(id: string, turn: Turn): Promise<void> {
    const items = await this.#load(id);
    await this.#store(id, [...items, ...messagesOf(turn).map(toItem)]);
  }

  async loadAll(id: string): Promise<Message[]> {
    return (await this.#load(id)).map(fromItem);
  }

  async loadLast(id: string, count: number): Promise<Message[]> {
    return (await this.loadAll(id)).slice(-count);
  }

  async fork(id: string): Promise<void> {
    await this.#store(crypto.randomUUID(), await this.#load(id));
  }

  /** The newest response. The earlier ones stay: nothing says that they belong together. */
  async remove(id: string): Promise<void> {
    await this.#remove.run(this.#newest.get(id));
  }

  async fill(admin: pg.Pool, rows: number, texts: string[]): Promise<void> {
    await admin.query(
      `insert into bench.conversation_states (response_id, input_items, created_at, model, provider)
       select 'resp_' || gen_random_uuid(), (
         select jsonb_agg(jsonb_build_object(
           'type', 'message', 'role', (array['assistant', 'user'])[1 + n % 2],
           'content', jsonb_build_array(jsonb_build_object(
             'type', 'input_text', 'text', ($2::text[])[1 + (chat * 20 + n) % cardinality($2::text[])]
           ))
         ))
         from generate_series(1, 20) n
       ), chat, 'gpt-5-mini', 'openai'
       from generate_series(1, $1::integer / 20) chat`,
      [rows, texts],
    );
  }

  async #load(id: string): Promise<Item[]> {
    const [{ input_items }] = await this.#get.run(this.#newest.get(id));
    return input_items;
  }

  async #store(id: string, items: Item[]): Promise<void> {
    const responseId = `resp_${crypto.randomUUID()}`;
    await this.#put.run(
      responseId,
      JSON.stringify(items),
      Math.floor(Date.now() / 1000),
      "gpt-5-mini",
      "openai",
    );
    this.#newest.set(id, responseId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool.end();
  }
}
