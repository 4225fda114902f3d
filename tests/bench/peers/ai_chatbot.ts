import type pg from "pg";
import type { Stack } from "../stack.ts";
import type { Turn } from "../text.ts";
import { connect, type Message, messagesOf, type Peer, Statement } from "./peer.ts";

export interface Row {
  role: Message["role"];
  parts: { type: string; text: string }[];
}

export const fromRow = ({ role, parts }: Row): Message => ({
  role,
  content: parts[0].text,
});

/**
 * vercel/ai-chatbot, after lib/db/schema.ts (the tables Chat and Message_v2) and lib/db/queries.ts. Its chat route saves
 * the user's message when it comes and the assistant's when it is finished, and loads all of a chat.
 */
export class AiChatbot implements Peer {
  readonly name = "ai-chatbot";
  readonly tables = ['bench."Chat"', 'bench."Message_v2"'];
  readonly #pool: pg.Pool;
  readonly #saveChat;
  readonly #saveMessage;
  readonly #getMessages;
  readonly #deleteMessages;
  readonly #deleteChat;

  constructor({ dbUrl }: Stack) {
    this.#pool = connect(dbUrl);
    this.#saveChat = new Statement(
      this.#pool,
      'insert into bench."Chat" (id, "createdAt", title, "userId", visibility) values ($1, $2, $3, $4, $5)',
    );
    this.#saveMessage = new Statement(
      this.#pool,
      `insert into bench."Message_v2" (id, "chatId", role, parts, attachments, "createdAt")
       values ($1, $2, $3, $4, $5, $6)`,
    );
    this.#getMessages = new Statement<Row>(
      this.#pool,
      `select id, "chatId", role, parts, attachments, "createdAt" from bench."Message_v2"
       where "chatId" = $1 order by "createdAt"`,
    );
    this.#deleteMessages = new Statement(this.#pool, 'delete from bench."Message_v2" where "chatId" = $1');
    this.#deleteChat = new Statement(this.#pool, 'delete from bench."Chat" where id = $1 returning id');
  }

  async setUp(): Promise<void> {
    await this.#pool.query(
      `create table bench."Chat" (
         id uuid primary key default gen_random_uuid(),
         "createdAt" timestamp not null,
         title text not null,
         "userId" uuid not null,
         visibility varchar not null default 'private'
       );
       create table bench."Message_v2" (
         id uuid primary key default gen_random_uuid(),
         "chatId" uuid not null references bench."Chat" (id),
         role varchar not null,
         parts json not null,
         attachments json not null,
         "createdAt" timestamp not null
       )`,
    );
  }

  async create(history: Message[] = []): Promise<string> {
    const id = crypto.randomUUID();
    await this.#saveChat.run(id, new Date(), "A chat", crypto.randomUUID(), "private");
    await this.#pool.query(
      `insert into bench."Message_v2" ("chatId", role, parts, attachments, "createdAt")
       select
         $1, m.value ->> 'role',
         json_build_array(json_build_object('type', 'text', 'text', m.value ->> 'content')), '[]',
         now() - (jsonb_array_length($2) - m.n) * interval '1 second'
       from jsonb_array_elements($2) with ordinality as m (value, n)`,
      [id, JSON.stringify(history)],
    );
    return id;
  }

  async append(id: string, turn: Turn): Promise<void> {
    for (const { role, content } of messagesOf(turn)) {
      const parts = JSON.stringify([{ type: "text", text: content }]);
      await this.#saveMessage.run(crypto.randomUUID(), id, role, parts, "[]", new Date());
    }
  }

  async loadAll(id: string): Promise<Message[]> {
    return (await this.#getMessages.run(id)).map(fromRow);
  }

  async loadLast(id: string, count: number): Promise<Message[]> {
    return (await this.#getMessages.run(id)).slice(-count).map(fromRow);
  }

  /** It has none: its rows, copied. */
  async fork(id: string): Promise<void> {
    await this.#pool.query(
      `with chat as (
         insert into bench."Chat" (id, "createdAt", title, "userId", visibility)
         select gen_random_uuid(), now(), title, "userId", visibility from bench."Chat" where id = $1
         returning id
       )
       insert into bench."Message_v2" ("chatId", role, parts, attachments, "createdAt")
       select chat.id, m.role, m.parts, m.attachments, m."createdAt"
       from chat, bench."Message_v2" m where m."chatId" = $1`,
      [id],
    );
  }

  async remove(id: string): Promise<void> {
    await this.#deleteMessages.run(id);
    await this.#deleteChat.run(id);
  }

  async fill(admin: pg.Pool, rows: number, texts: string[]): Promise<void> {
    await admin.query(
      `with chats as (
         insert into bench."Chat" ("createdAt", title, "userId")
         select now(), 'A chat', gen_random_uuid() from generate_series(1, $1::integer / 20)
         returning id
       )
       insert into bench."Message_v2" ("chatId", role, parts, attachments, "createdAt")
       select
         chats.id, (array['assistant', 'user'])[1 + n % 2],
         json_build_array(json_build_object(
           'type', 'text', 'text', ($2::text[])[1 + (row_number() over ()) % cardinality($2::text[])]
         )),
         '[]', now() + n * interval '1 second'
       from chats, generate_series(1, 20) n`,
      [rows, texts],
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool.end();
  }
}
