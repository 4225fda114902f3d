import pg from "pg";
import type { Turn } from "../text.ts";

export interface Message {
  role: "user" | "assistant";
  content: string;
}

/** A system under test, driven as its users drive it. */
export interface Peer extends AsyncDisposable {
  readonly name: string;
  /** Everything it stores is in these tables; none where the tables are another system's. */
  readonly tables: string[];
  /** Makes its tables. */
  setUp(): Promise<void>;
  /** A conversation, with the messages that it begins with stored in the fastest way the system has. */
  create(history?: Message[]): Promise<string>;
  append(id: string, turn: Turn): Promise<void>;
  /** All messages, oldest first. */
  loadAll(id: string): Promise<Message[]>;
  /** The newest `count` messages, in whichever direction the system has them. */
  loadLast(id: string, count: number): Promise<Message[]>;
  /** Another conversation that begins with all of these messages and goes on by itself. */
  fork?(id: string): Promise<unknown>;
  remove(id: string): Promise<void>;
  /** How many messages have all the words. */
  search?(words: string): Promise<number>;
  /** Does what the system's jobs do before long, for all that is stored. */
  settle?(admin: pg.Pool): Promise<void>;
  /** Stores `rows` messages of others, 20 in a conversation, taken from `texts` in turn. */
  fill?(admin: pg.Pool, rows: number, texts: string[]): Promise<void>;
}

/** The same for every system, and as many as the REST API of the local stack has. */
export const POOL_SIZE = 20;

export function connect(url: string, options?: string): pg.Pool {
  // Idle ones are closed soon: the pools of all systems together are more than the server has room for.
  return new pg.Pool({
    connectionString: url,
    max: POOL_SIZE,
    options,
    idleTimeoutMillis: 3000,
  });
}

/** A statement that each connection prepares once. */
export class Statement<Row extends pg.QueryResultRow = pg.QueryResultRow> {
  static #count = 0;
  readonly #name = `statement_${Statement.#count++}`;

  constructor(readonly pool: pg.Pool, readonly text: string) {}

  async run(...values: unknown[]): Promise<Row[]> {
    return (await this.pool.query<Row>({
      name: this.#name,
      text: this.text,
      values,
    })).rows;
  }
}

export const messagesOf = ({ user, assistant }: Turn): Message[] => [
  { role: "user", content: user },
  { role: "assistant", content: assistant },
];
