/** A real PostgREST in the place of the stand-in: `--rest-url`. */
import { setTimeout as delay } from "node:timers/promises";
import { StackError } from "./errors.ts";
import { forward } from "./forward.ts";
import type { Keys } from "./keys.ts";
import { failure } from "./responses.ts";
import { roleTokens } from "./roles.ts";

export interface PostgrestOptions {
  /** Where it answers, or will. */
  url: string;
  keys: Keys;
}

/** For a person to read the settings and start it. */
const START_TIMEOUT_MS = 10 * 60_000;

/** @throws {StackError} For what is no address. */
export function checkRestUrl(url: string): void {
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? "")) throw new StackError(`--rest-url ${url} is no http URL.`);
}

/** What PostgREST needs to serve this stack, as its environment. */
export function postgrestSettings(
  { url, keys, dbPort, maxRows }: PostgrestOptions & { dbPort: number; maxRows: number },
): Record<string, string> {
  return {
    PGRST_DB_URI: `postgresql://authenticator:postgres@127.0.0.1:${dbPort}/postgres`,
    PGRST_DB_SCHEMAS: "public", // one that does not exist makes every request 503
    PGRST_DB_EXTRA_SEARCH_PATH: "public,extensions",
    PGRST_DB_ANON_ROLE: "anon",
    PGRST_DB_MAX_ROWS: `${maxRows}`,
    PGRST_DB_POOL: "20",
    PGRST_JWT_SECRET: keys.jwtSecret,
    PGRST_SERVER_PORT: new URL(url).port || "80",
  };
}

/** Serves `/rest/v1` from it. */
export function passToPostgrest({ url, keys }: PostgrestOptions): (request: Request) => Promise<Response> {
  const withRole = roleTokens(keys);
  const origin = url.replace(/\/+$/, "");
  return async (request) => {
    const headers = await withRole(request);
    if (headers instanceof Response) return headers;
    const { pathname, search } = new URL(request.url);
    const path = pathname.slice("/rest/v1".length) || "/";
    return await forward(origin + path + search, request, headers)
      .catch(() => failure(503, "SERVICE_UNAVAILABLE", "PostgREST does not answer"));
  };
}

/**
 * Prints the command that starts it, and waits until it answers with a table of this stack.
 *
 * @throws {StackError} After {@link START_TIMEOUT_MS}.
 */
export async function awaitPostgrest(
  { url, keys }: PostgrestOptions,
  settings: Record<string, string>,
  log: (line: string) => void,
  signal?: AbortSignal,
): Promise<void> {
  log(`\nWaiting at most ten minutes for PostgREST at ${url}, started like this:\n`);
  for (const [name, value] of Object.entries(settings)) log(`  ${name}='${value}' \\`);
  log("  postgrest\n");

  const pass = passToPostgrest({ url, keys });
  const probe = new Request("http://local/rest/v1/conversations?select=id&limit=1", {
    headers: { apikey: keys.secretKey },
  });
  let last = "";
  for (const deadline = Date.now() + START_TIMEOUT_MS; Date.now() < deadline; await delay(250, undefined, { signal })) {
    const response = await pass(probe.clone());
    const answer = `${response.status} ${await response.text()}`;
    if (response.ok) return;
    if (answer !== last && last) log(`${url} answers ${answer}`); // first it is not there yet
    last = answer;
  }
  throw new StackError(`PostgREST at ${url} does not serve this stack. Its last answer: ${last}`);
}
