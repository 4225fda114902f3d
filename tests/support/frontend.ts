/**
 * A frontend: tests/support/browser.ts bundles it for a page, with the `follow` that docs/sessions.md shows, and the tests
 * have the page call it.
 *
 * @example await page.evaluate(() => frontend.call("conversations", { body: { title: "From a page" } }))
 */
import { createClient, FunctionsHttpError, type SupabaseClient } from "@supabase/supabase-js";

/** What `follow` uses. */
export let supabase: SupabaseClient;
export let API_URL: string;

/** What a page can see of an answer. */
export interface Seen {
  status: number;
  /** Those that the page may read. */
  headers: Record<string, string>;
  // deno-lint-ignore no-explicit-any -- every shape the API answers
  body: any;
}

const frontend = {
  connect(url: string, key: string): void {
    API_URL = url;
    supabase = createClient(url, key);
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

  /** How many conversations the user has, as REST tells it: in a header. */
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

  /** The text of every event that {@link frontend.follow} has received. */
  received: [] as string[],

  /** Receives the events of a session until it has ended. */
  async follow(id: string): Promise<void> {
    await follow(id, ({ content }) => frontend.received.push(content.text));
  },
};

/** As tracing tools do, to every request of a page, whoever makes it. */
const { fetch } = globalThis;
globalThis.fetch = (input, init) => {
  const headers = new Headers(init?.headers);
  headers.set("sentry-trace", "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1");
  headers.set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  headers.set("baggage", "sentry-environment=production,sentry-release=1.0.0");
  headers.set("cache-control", "no-cache");
  return fetch(input, { ...init, headers });
};

declare global {
  var frontend: Frontend;
  function follow(id: string, onEvent: (event: { content: { text: string } }) => void): Promise<void>;
}
type Frontend = typeof frontend;
globalThis.frontend = frontend;
