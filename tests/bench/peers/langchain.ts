import { PostgresChatMessageHistory } from "@langchain/community/stores/message/postgres";
import { AIMessage, type BaseMessage, HumanMessage } from "@langchain/core/messages";
import type pg from "pg";
import type { Stack } from "../stack.ts";
import type { Turn } from "../text.ts";
import { connect, type Message, messagesOf, type Peer } from "./peer.ts";

const TABLE = "bench.langchain_chat_histories";

export const toLangChain = ({ role, content }: Message): BaseMessage =>
  role === "user" ? new HumanMessage(content) : new AIMessage(content);

export const fromLangChain = (message: BaseMessage): Message => ({
  role: message.type === "human" ? "user" : "assistant",
  content: message.text,
});

/** LangChain's PostgresChatMessageHistory as it comes: a row and a statement for each message, order by a serial id. */
export class LangChain implements Peer {
  readonly name = "LangChain";
  readonly tables = [TABLE];
  readonly #pool: pg.Pool;
  readonly #histories = new Map<string, PostgresChatMessageHistory>();

  constructor({ dbUrl }: Stack) {
    this.#pool = connect(dbUrl);
  }

  async setUp(): Promise<void> {
    await this.#history("").getMessages(); // makes its table
  }

  async create(history: Message[] = []): Promise<string> {
    const id = crypto.randomUUID();
    // The library's own rows, in one statement instead of one for each.
    await this.#pool.query(
      `insert into ${TABLE} (session_id, message)
       select $1, jsonb_build_object(
         'type', case m.value ->> 'role' when 'user' then 'human' else 'ai' end, 'content', m.value ->> 'content',
         'additional_kwargs', '{}'::jsonb, 'response_metadata', '{}'::jsonb
       )
       from jsonb_array_elements($2) with ordinality as m (value, n) order by m.n`,
      [id, JSON.stringify(history)],
    );
    return id;
  }

  async append(id: string, turn: Turn): Promise<void> {
    await this.#history(id).addMessages(messagesOf(turn).map(toLangChain));
  }

  async loadAll(id: string): Promise<Message[]> {
    return (await this.#history(id).getMessages()).map(fromLangChain);
  }

  async loadLast(id: string, count: number): Promise<Message[]> {
    return (await this.#history(id).getMessages()).slice(-count).map(fromLangChain);
  }

  /** The library has none: its rows, copied. */
  async fork(id: string): Promise<void> {
    await this.#pool.query(
      `insert into ${TABLE} (session_id, message) select $2, message from ${TABLE} where session_id = $1 order by id`,
      [id, crypto.randomUUID()],
    );
  }

  async remove(id: string): Promise<void> {
    await this.#history(id).clear();
  }

  async fill(admin: pg.Pool, rows: number, texts: string[]): Promise<void> {
    await admin.query(
      `insert into ${TABLE} (session_id, message)
       select 'foreign ' || n / 20, jsonb_build_object(
         'type', (array['ai', 'human'])[1 + n % 2], 'content', ($2::text[])[1 + n % cardinality($2::text[])],
         'additional_kwargs', '{}'::jsonb, 'response_metadata', '{}'::jsonb
       )
       from generate_series(1, $1::integer) n`,
      [rows, texts],
    );
  }

  #history(id: string): PostgresChatMessageHistory {
    let history = this.#histories.get(id);
    if (!history) {
      history = new PostgresChatMessageHistory({
        pool: this.#pool,
        tableName: TABLE,
        sessionId: id,
      });
      this.#histories.set(id, history);
    }
    return history;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool.end();
  }
}
