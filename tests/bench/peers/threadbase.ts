import type pg from "pg";
import type { Stack } from "../stack.ts";
import type { Turn } from "../text.ts";
import { connect, type Message, messagesOf, type Peer, Statement } from "./peer.ts";

const BATCH = 1000;

/** As PostgREST calls: role authenticated and the claims of a user's token, here once for each connection. */
export function connectAsUser({ dbUrl, userId }: Stack): pg.Pool {
  const claims = JSON.stringify({ sub: userId, role: "authenticated" });
  return connect(dbUrl, `-c role=authenticated -c request.jwt.claims=${claims}`);
}

/** Threadbase's RPCs as the API calls them: role authenticated, row level security on, the claims of a user's token. */
export class Threadbase implements Peer {
  readonly name = "Threadbase";
  readonly tables = ["public.conversations", "public.conversation_messages", "private.search_filters"];
  readonly #pool: pg.Pool;
  readonly #create;
  readonly #append;
  readonly #list;
  readonly #fork;
  readonly #remove;
  readonly #search;

  constructor(stack: Stack) {
    this.#pool = connectAsUser(stack);
    this.#create = new Statement(this.#pool, "select public.create_conversation() as value");
    this.#append = new Statement(this.#pool, "select public.append_messages($1, $2) as value");
    this.#list = new Statement(
      this.#pool,
      "select public.list_messages($1, p_after => $2, p_limit => $3, p_order => $4) as value",
    );
    this.#fork = new Statement(this.#pool, "select public.fork_conversation($1, $2) as value");
    this.#remove = new Statement(this.#pool, "select public.delete_conversation($1) as value");
    this.#search = new Statement(this.#pool, "select public.search_messages($1) as value");
  }

  async setUp(): Promise<void> {}

  async create(history: Message[] = []): Promise<string> {
    const [{ value: { id } }] = await this.#create.run();
    for (let i = 0; i < history.length; i += BATCH) {
      await this.#append.run(id, JSON.stringify(history.slice(i, i + BATCH)));
    }
    return id;
  }

  async append(id: string, turn: Turn): Promise<void> {
    await this.#append.run(id, JSON.stringify(messagesOf(turn)));
  }

  async loadAll(id: string): Promise<Message[]> {
    const messages: (Message & { sequence_order: number })[] = [];
    for (let more = true; more;) {
      const [{ value }] = await this.#list.run(id, messages.at(-1)?.sequence_order ?? null, BATCH, "asc");
      messages.push(...value.data);
      more = value.has_more;
    }
    return messages;
  }

  async loadLast(id: string, count: number): Promise<Message[]> {
    const [{ value }] = await this.#list.run(id, null, count, "desc");
    return value.data;
  }

  async fork(id: string): Promise<void> {
    const [last] = await this.loadLast(id, 1) as (Message & { sequence_order: number })[];
    await this.#fork.run(id, last.sequence_order);
  }

  async remove(id: string): Promise<void> {
    await this.#remove.run(id);
  }

  async search(words: string): Promise<number> {
    const [{ value }] = await this.#search.run(words);
    return value.data.length;
  }

  /** The search filters, those of conversations that are not quiet yet as well. */
  async settle(admin: pg.Pool): Promise<void> {
    await admin.query(
      `update private.search_filters f set (up_to_sequence, words) =
         (select m.up_to_sequence, m.words from private.make_search_filter(f.conversation_id, f.block) m)
       where f.words is null`,
    );
  }

  /** As the owner of the tables, past the triggers: with every index and check, without a lock for each row. */
  async fill(admin: pg.Pool, rows: number, texts: string[]): Promise<void> {
    const client = await admin.connect();
    try {
      await client.query("begin");
      await client.query("set local session_replication_role = replica");
      await client.query(
        `with added as (
           insert into auth.users (id, aud, role, email)
           select gen_random_uuid(), 'authenticated', 'authenticated', gen_random_uuid() || '@bench.example'
           from generate_series(1, greatest($1::integer / 2000, 1))
           returning id
         ), owners as (select array_agg(id) as ids from added), conversations as (
           insert into public.conversations (user_id, last_sequence_order)
           select o.ids[1 + n % cardinality(o.ids)], 20 from owners o, generate_series(1, $1::integer / 20) n
           returning id, user_id
         )
         insert into public.conversation_messages (conversation_id, user_id, sequence_order, role, content, author)
         select
           c.id, c.user_id, n, (array['assistant', 'user'])[1 + n % 2],
           ($2::text[])[1 + (row_number() over ()) % cardinality($2::text[])], 'user'
         from conversations c, generate_series(1, 20) n`,
        [rows, texts],
      );
      await client.query("commit");
    } finally {
      client.release();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool.end();
  }
}
