import { AIMessage, type BaseMessage, HumanMessage } from "@langchain/core/messages";
import { END, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { PostgresSaver } from "@langchain/langgraph-checkpoint-postgres";
import type pg from "pg";
import { fromLangChain, toLangChain } from "./langchain.ts";
import type { Stack } from "../stack.ts";
import type { Turn } from "../text.ts";
import { connect, type Message, type Peer } from "./peer.ts";

const SCHEMA = "langgraph";

/**
 * LangGraph with PostgresSaver: a graph of one node, which answers what the turn says that the model said. A turn is
 * one `invoke`, a load is `getState`.
 */
export class LangGraph implements Peer {
  readonly name = "LangGraph";
  readonly tables = ["checkpoints", "checkpoint_blobs", "checkpoint_writes"]
    .map((table) => `${SCHEMA}.${table}`);
  readonly #pool: pg.Pool;
  readonly #saver: PostgresSaver;
  readonly #graph;

  constructor({ dbUrl }: Stack) {
    this.#pool = connect(dbUrl);
    this.#saver = new PostgresSaver(this.#pool, undefined, { schema: SCHEMA });
    this.#graph = new StateGraph(MessagesAnnotation)
      .addNode("model", (_state, { context }) => ({
        messages: [new AIMessage((context as { answer: string }).answer)],
      }))
      .addEdge(START, "model")
      .addEdge("model", END)
      .compile({ checkpointer: this.#saver });
  }

  async setUp(): Promise<void> {
    await this.#saver.setup();
  }

  async create(history: Message[] = []): Promise<string> {
    const id = crypto.randomUUID();
    if (history.length > 0) {
      await this.#graph.updateState(thread(id), {
        messages: history.map(toLangChain),
      }, "model");
    }
    return id;
  }

  async append(id: string, { user, assistant }: Turn): Promise<void> {
    await this.#graph.invoke({ messages: [new HumanMessage(user)] }, {
      ...thread(id),
      context: { answer: assistant },
    });
  }

  async loadAll(id: string): Promise<Message[]> {
    return (await this.#messages(id)).map(fromLangChain);
  }

  async loadLast(id: string, count: number): Promise<Message[]> {
    return (await this.#messages(id)).slice(-count).map(fromLangChain);
  }

  /** Into a thread of its own. (Within a thread a fork is one more checkpoint, but there is one newest state.) */
  async fork(id: string): Promise<void> {
    await this.#graph.updateState(thread(crypto.randomUUID()), {
      messages: await this.#messages(id),
    }, "model");
  }

  async remove(id: string): Promise<void> {
    await this.#saver.deleteThread(id);
  }

  /** Threads of one turn, because those of 20 messages are ten times the checkpoints. */
  async fill(admin: pg.Pool, rows: number, [user, assistant]: string[]): Promise<void> {
    const id = await this.create();
    await this.append(id, { user, assistant });
    for (const table of this.tables) {
      const { rows: columns } = await admin.query(
        `select string_agg(quote_ident(attname), ', ') as rest from pg_attribute
         where attrelid = $1::regclass and attnum > 0 and not attisdropped and attname <> 'thread_id'`,
        [table],
      );
      await admin.query(
        `insert into ${table} (thread_id, ${columns[0].rest})
         select 'foreign ' || n, ${
          columns[0].rest
        } from ${table}, generate_series(1, $2::integer / 2) n where thread_id = $1`,
        [id, rows],
      );
    }
    await this.remove(id);
  }

  async #messages(id: string): Promise<BaseMessage[]> {
    const { values } = await this.#graph.getState(thread(id));
    return values.messages ?? [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool.end();
  }
}

const thread = (id: string) => ({ configurable: { thread_id: id } });
