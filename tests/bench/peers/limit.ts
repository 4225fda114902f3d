import type pg from "pg";
import type { Stack } from "../stack.ts";
import type { Turn } from "../text.ts";
import { connect, type Message, type Peer, Statement } from "./peer.ts";

/** What Threadbase answers of a message. */
const ANSWER =
  `id, conversation_id, sequence_order, type, role, content, parts, name, function_call, tool_calls, tool_call_id,
  item_id, model, usage, status, token_count, author, metadata, created_at`;

/**
 * The bare limit: the rows that Threadbase stores, in Threadbase's own tables with their indexes, checks and foreign
 * keys, by one prepared statement for each operation, as a role that no policy holds. Nothing is validated, nobody is
 * checked.
 */
export class Limit implements Peer {
  readonly name = "bare limit";
  readonly tables = [];
  readonly #pool: pg.Pool;
  readonly #userId: string;
  readonly #create;
  readonly #append;
  readonly #all;
  readonly #last;
  readonly #remove;

  constructor({ dbUrl, userId }: Stack) {
    this.#userId = userId;
    this.#pool = connect(dbUrl);
    this.#create = new Statement(this.#pool, "insert into public.conversations (user_id) values ($1) returning id");
    this.#append = new Statement(
      this.#pool,
      `with c as (
         update public.conversations
         set last_sequence_order = last_sequence_order + 2, updated_at = clock_timestamp()
         where id = $1
         returning id, user_id, last_sequence_order - 2 as last
       )
       insert into public.conversation_messages (conversation_id, user_id, sequence_order, role, content, author)
       select c.id, c.user_id, c.last + m.n, m.role, m.content, 'user'
       from c, (values (1, 'user', $2), (2, 'assistant', $3)) as m (n, role, content)
       returning ${ANSWER}`,
    );
    this.#all = new Statement<pg.QueryResultRow & Message>(
      this.#pool,
      `select ${ANSWER} from public.conversation_messages where conversation_id = $1 order by sequence_order`,
    );
    this.#last = new Statement<pg.QueryResultRow & Message>(
      this.#pool,
      `select ${ANSWER} from public.conversation_messages
       where conversation_id = $1 order by sequence_order desc limit $2`,
    );
    this.#remove = new Statement(this.#pool, "delete from public.conversations where id = $1");
  }

  async setUp(): Promise<void> {}

  async create(history: Message[] = []): Promise<string> {
    const [{ id }] = await this.#create.run(this.#userId);
    await this.#pool.query(
      `with c as (
         update public.conversations set last_sequence_order = jsonb_array_length($2)
         where id = $1
         returning id, user_id
       )
       insert into public.conversation_messages (conversation_id, user_id, sequence_order, role, content, author)
       select c.id, c.user_id, m.n, m.value ->> 'role', m.value ->> 'content', 'user'
       from c, jsonb_array_elements($2) with ordinality as m (value, n)`,
      [id, JSON.stringify(history)],
    );
    return id;
  }

  async append(id: string, { user, assistant }: Turn): Promise<void> {
    await this.#append.run(id, user, assistant);
  }

  async loadAll(id: string): Promise<Message[]> {
    return await this.#all.run(id);
  }

  async loadLast(id: string, count: number): Promise<Message[]> {
    return await this.#last.run(id, count);
  }

  async remove(id: string): Promise<void> {
    await this.#remove.run(id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool.end();
  }
}
