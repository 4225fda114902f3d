// The stack under test. `npm test` starts one and sets these variables; `supabase status -o env` prints the same ones
// for the Docker stack.
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import postgres from "postgres";
import type { Database } from "../../supabase/functions/_shared/database.types.ts";

function env(name: string): string {
  const value = Deno.env.get(name);
  if (!value) throw new Error(`${name} is not set: run the tests with "npm test".`);
  return value;
}

export const apiUrl = env("API_URL");
export const dbUrl = env("DB_URL");
export const publishableKey = env("PUBLISHABLE_KEY");
export const secretKey = env("SECRET_KEY");

/** A connection as the owner of the schema: past every policy, for looking at what is really stored. */
export function connect(): postgres.Sql {
  return postgres(dbUrl, { max: 2, onnotice: () => {} });
}

/** A supabase-js client as a frontend has it, without the timers that a test would leak. */
export function newClient(key = publishableKey): SupabaseClient<Database> {
  return createClient<Database>(apiUrl, key, { auth: { persistSession: false, autoRefreshToken: false } });
}

/** An HTTP answer with its body read: JSON if it is JSON, null if it is empty. */
export interface Answer {
  status: number;
  headers: Headers;
  // deno-lint-ignore no-explicit-any -- the tests look into every shape the API answers
  body: any;
}

/** One plain request below `/functions/v1`. An object is sent as JSON, a string as it is. */
export async function request(
  method: string,
  path: string,
  { body, headers = {} }: { body?: unknown; headers?: Record<string, string> } = {},
): Promise<Answer> {
  const response = await fetch(`${apiUrl}/functions/v1${path}`, {
    method,
    headers: { ...(body !== undefined && { "content-type": "application/json" }), ...headers },
    body: body === undefined || typeof body === "string" || body instanceof Uint8Array
      ? body as BodyInit
      : JSON.stringify(body),
  });
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.includes("application/json");
  return { status: response.status, headers: response.headers, body: isJson && text ? JSON.parse(text) : text || null };
}

/** Someone who signed up through Auth, with their own token. */
export interface TestUser {
  id: string;
  email: string;
  token: string;
  client: SupabaseClient<Database>;
  request: typeof request;
}

export async function signUp(): Promise<TestUser> {
  const client = newClient();
  const email = `${crypto.randomUUID()}@example.com`;
  const { data, error } = await client.auth.signUp({ email, password: crypto.randomUUID() });
  if (error) throw error;
  const token = data.session!.access_token;
  return {
    id: data.user!.id,
    email,
    token,
    client,
    request: (method, path, { body, headers } = {}) =>
      request(method, path, {
        body,
        headers: { apikey: publishableKey, authorization: `Bearer ${token}`, ...headers },
      }),
  };
}

/** A trusted backend: the secret key, acting for one user or for nobody in particular. */
export function backend(userId?: string): typeof request {
  return (method, path, { body, headers } = {}) =>
    request(method, path, {
      body,
      headers: { apikey: secretKey, ...(userId && { "x-user-id": userId }), ...headers },
    });
}

/**
 * Repeats a call while it answers 503, as a client does: indexes of documents are made by taking the table for a moment,
 * and other tests may keep it busy.
 */
export async function patiently(call: () => Promise<Answer>): Promise<Answer> {
  let answer = await call();
  for (let attempt = 1; attempt < 30 && answer.status === 503; attempt++) answer = await call();
  return answer;
}

/** Creates a conversation and returns its id. */
export async function newConversation(user: TestUser, body: Record<string, unknown> = {}): Promise<string> {
  const { status, body: conversation } = await user.request("POST", "/conversations", { body });
  if (status !== 201) throw new Error(`Creating a conversation answered ${status}: ${JSON.stringify(conversation)}`);
  return conversation.id;
}

export const uuid = (): string => crypto.randomUUID();
