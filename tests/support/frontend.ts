/**
 * A frontend: tests/support/browser.ts bundles it for a page, and the tests have the page call it.
 *
 * @example await page.evaluate(() => frontend.call("conversations", { body: { title: "From a page" } }))
 */
import { createClient, FunctionsHttpError, type SupabaseClient } from "@supabase/supabase-js";

/** What tracing tools add to the requests of a page. */
const TRACING = {
  "sentry-trace": "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
  baggage: "sentry-environment=production,sentry-release=1.0.0",
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  "cache-control": "no-cache",
};

/** What a page can see of an answer. */
export interface Seen {
  status: number;
  /** Those that the page may read. */
  headers: Record<string, string>;
  // deno-lint-ignore no-explicit-any -- every shape the API answers
  body: any;
}

/** One server-sent event. */
export interface StreamEvent {
  id?: string;
  event: string;
  // deno-lint-ignore no-explicit-any -- an event, or the session at its end
  data: any;
}

let supabase: SupabaseClient;
let apiUrl: string;

const frontend = {
  connect(url: string, key: string): void {
    apiUrl = url;
    supabase = createClient(url, key, { global: { headers: TRACING } });
  },

  /** Signs up, leaves, and logs in again. */
  async logIn(email: string, password: string): Promise<void> {
    for (
      const step of [
        () => supabase.auth.signUp({ email, password }),
        () => supabase.auth.signOut(),
        () => supabase.auth.signInWithPassword({ email, password }),
      ]
    ) {
      const { error } = await step();
      if (error) throw error;
    }
  },

  /** The number and status of the user's conversations as REST tells them: the number is in a header. */
  async count(): Promise<{ status: number; count: number | null }> {
    const { status, count } = await supabase.from("conversations").select("id", { count: "exact" });
    return { status, count };
  },

  /** @throws What supabase-js has when the browser keeps the answer from the page. */
  async call(path: string, options: Parameters<typeof supabase.functions.invoke>[1] = {}): Promise<Seen> {
    const { data, error, response } = await supabase.functions.invoke(path, options);
    if (error && !(error instanceof FunctionsHttpError)) throw error;
    return {
      status: response!.status,
      headers: Object.fromEntries(response!.headers),
      body: error ? await error.context.json() : data,
    };
  },

  /** What {@link frontend.follow} has received. */
  received: [] as StreamEvent[],

  /** Receives the events of a session until the stream ends. */
  async follow(sessionId: string, lastEventId?: string): Promise<void> {
    for await (const event of streamEvents(sessionId, lastEventId)) frontend.received.push(event);
  },
};

/** The events of a session as they come. By fetch, because an EventSource cannot send a token. */
async function* streamEvents(sessionId: string, lastEventId = ""): AsyncGenerator<StreamEvent> {
  const { data: { session } } = await supabase.auth.getSession();
  const response = await fetch(`${apiUrl}/functions/v1/sessions/${sessionId}/events/stream`, {
    headers: { Authorization: `Bearer ${session!.access_token}`, "Last-Event-ID": lastEventId, ...TRACING },
  });
  if (!response.ok) throw new Error((await response.json()).code);

  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    const blocks = (text + chunk.value).split("\n\n");
    text = blocks.pop()!; // what has not arrived whole
    for (const block of blocks) {
      const field = (name: string) => block.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1];
      const data = field("data");
      if (data) yield { id: field("id"), event: field("event") ?? "message", data: JSON.parse(data) };
    }
  }
}

declare global {
  var frontend: Frontend;
}
type Frontend = typeof frontend;
globalThis.frontend = frontend;
