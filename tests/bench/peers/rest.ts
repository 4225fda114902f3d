/** The peers that people drive through supabase-js: the same tables and steps, over the REST API instead of a pool. */
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import type pg from "pg";
import { readStack } from "../stack.ts";
import type { Turn } from "../text.ts";
import { fromRow, type Row } from "./ai_chatbot.ts";
import { type Message, messagesOf } from "./peer.ts";
import { fromItem, type Item, toItem } from "./plano.ts";

/** The API exposes the schema public alone. No row level security: these clients carry the secret key. */
export async function setUpRest(owner: pg.Pool): Promise<void> {
  await owner.query(
    `create table public.bench_chats (like bench.chats including all);
     create table public.bench_conversation_states (like bench.conversation_states including all);
     create table public."bench_Chat" (like bench."Chat" including all);
     create table public."bench_Message_v2" (
       like bench."Message_v2" including all, foreign key ("chatId") references public."bench_Chat" (id)
     );
     grant select, insert, update, delete
       on public.bench_chats, public.bench_conversation_states, public."bench_Chat", public."bench_Message_v2"
       to service_role;
     notify pgrst, 'reload schema'`,
  );
}

/** A PostgREST that runs already reads the schema a moment after it is told to. */
export async function awaitTables(origin: string, apikey: string): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const response = await fetch(`${origin}/rest/v1/bench_Message_v2?limit=0`, { headers: { apikey } });
    await response.body?.cancel();
    if (response.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("The REST API has not seen the tables of the benchmark.");
}

// deno-lint-ignore no-explicit-any -- there are no generated types of these tables
function client(): SupabaseClient<any> {
  const { functionEnvironment, secretKey } = readStack();
  return createClient(functionEnvironment.SUPABASE_URL, secretKey, {
    auth: { persistSession: false, autoRefreshToken: false },
  });
}

export class JsonbRest {
  readonly #client = client();

  async create(messages: Message[]): Promise<string> {
    const id = crypto.randomUUID();
    await this.#client.from("bench_chats").upsert({ id, messages }).throwOnError();
    return id;
  }

  async append(id: string, turn: Turn): Promise<void> {
    const messages = [...await this.#load(id), ...messagesOf(turn)];
    await this.#client.from("bench_chats").upsert({ id, messages }).throwOnError();
  }

  async loadLast(id: string, count: number): Promise<Message[]> {
    return (await this.#load(id)).slice(-count);
  }

  async #load(id: string): Promise<Message[]> {
    const { data } = await this.#client.from("bench_chats").select("messages").eq("id", id).single().throwOnError();
    return data.messages;
  }
}

export class PlanoRest {
  readonly #client = client();
  readonly #newest = new Map<string, string>();

  async create(messages: Message[]): Promise<string> {
    const id = crypto.randomUUID();
    await this.#store(id, messages.map(toItem));
    return id;
  }

  async append(id: string, turn: Turn): Promise<void> {
    await this.#store(id, [...await this.#load(id), ...messagesOf(turn).map(toItem)]);
  }

  async loadLast(id: string, count: number): Promise<Message[]> {
    return (await this.#load(id)).slice(-count).map(fromItem);
  }

  async #load(id: string): Promise<Item[]> {
    const { data } = await this.#client.from("bench_conversation_states")
      .select("response_id, input_items, created_at, model, provider")
      .eq("response_id", this.#newest.get(id)!).single().throwOnError();
    return data.input_items;
  }

  async #store(id: string, input_items: Item[]): Promise<void> {
    const response_id = `resp_${crypto.randomUUID()}`;
    const created_at = Math.floor(Date.now() / 1000);
    await this.#client.from("bench_conversation_states")
      .upsert({ response_id, input_items, created_at, model: "gpt-5-mini", provider: "openai" }).throwOnError();
    this.#newest.set(id, response_id);
  }
}

export class AiChatbotRest {
  readonly #client = client();

  async create(messages: Message[]): Promise<string> {
    const id = crypto.randomUUID();
    const createdAt = (n: number) => new Date(Date.now() - 1000 * (messages.length - n));
    await this.#client.from("bench_Chat")
      .insert({ id, createdAt: createdAt(0), title: "A chat", userId: crypto.randomUUID() }).throwOnError();
    await this.#client.from("bench_Message_v2")
      .insert(messages.map((message, n) => this.#row(id, message, createdAt(n)))).throwOnError();
    return id;
  }

  async append(id: string, turn: Turn): Promise<void> {
    for (const message of messagesOf(turn)) {
      await this.#client.from("bench_Message_v2").insert(this.#row(id, message, new Date())).throwOnError();
    }
  }

  async loadLast(id: string, count: number): Promise<Message[]> {
    const { data } = await this.#client.from("bench_Message_v2")
      .select("id, chatId, role, parts, attachments, createdAt").eq("chatId", id).order("createdAt").throwOnError();
    return (data as Row[]).slice(-count).map(fromRow);
  }

  #row(chatId: string, { role, content }: Message, createdAt: Date) {
    return { chatId, role, parts: [{ type: "text", text: content }], attachments: [], createdAt };
  }
}
