/** `npm run import -- FILE`: brings an export of Threadbase or of ChatGPT into an account. */
import { createClient } from "@supabase/supabase-js";
import { decodeJwt } from "jose";
import { readChatGpt } from "../supabase/functions/conversations/chatgpt.ts";
import type { ImportError, ImportRecord } from "../supabase/functions/conversations/records.ts";
import type { ImportEntry, ImportReport } from "../supabase/functions/conversations/transfer.ts";
import { dataDirOption, readArguments, run, runningStack } from "./command.ts";
import { StackError } from "./errors.ts";
import { findSources, type Source } from "./sources.ts";
import { decode, lineType, readBytes, readElements, readLines, Splitter } from "./split.ts";

const HELP =
  `Imports conversations: the NDJSON of GET /conversations/export, or a ChatGPT export: its .zip, its folder, its
conversations.json, or all of its conversations-000.json, conversations-001.json …

Usage: npm run import -- FILE... [options]

  --url API_URL          the project (default: API_URL, else the running local stack)
  --key KEY              its publishable key, for logging in (with API_URL: PUBLISHABLE_KEY)
  --data-dir DIR         the local stack that runs on it (default: .local)
  --token TOKEN          the access token of the account (or ACCESS_TOKEN)
  --email, --password    log in instead (or EMAIL and PASSWORD)
  --verbose              show the notes on every conversation
  --help

A ChatGPT export may be imported again: what is there is left as it is, and what is new is added.
Says where it imports to before it sends anything. Ends with 1 if anything was not imported.`;

/** How often a request is sent again that the API did not take. */
const RETRIES = 2;

interface Options {
  files: string[];
  url: string;
  key?: string;
  verbose: boolean;
  token?: string;
  email?: string;
  password?: string;
}

async function readOptions(): Promise<Options> {
  const { values, positionals: files } = readArguments(HELP, {
    url: { type: "string" },
    key: { type: "string" },
    ...dataDirOption,
    token: { type: "string" },
    email: { type: "string" },
    password: { type: "string" },
    verbose: { type: "boolean" },
  }, [1, Infinity]);
  const token = values.token ?? (values.email ? undefined : Deno.env.get("ACCESS_TOKEN"));
  const email = values.email ?? Deno.env.get("EMAIL");
  const password = values.password ?? Deno.env.get("PASSWORD");
  if ((values.token && values.email) || !(token || email && password)) {
    throw new StackError("Whose account? Give --token, or --email and --password.");
  }
  const { url, key } = await findProject(values);
  if (!key && !token) throw new StackError(`Logging in at ${url} takes its publishable key: give it with --key.`);
  return { files, url, key, verbose: values.verbose ?? false, token, email, password };
}

/** Address and key come from one place: those of two projects are never mixed. */
async function findProject(
  values: { url?: string; key?: string; "data-dir"?: string },
): Promise<{ url: string; key?: string }> {
  const dataDir = values["data-dir"];
  if (dataDir && values.url) throw new StackError("Import where? Give --url or --data-dir, not both.");
  const url = values.url ?? (dataDir ? undefined : Deno.env.get("API_URL"));
  if (!url) {
    const { API_URL, PUBLISHABLE_KEY } = await runningStack(dataDir);
    return { url: API_URL, key: values.key ?? PUBLISHABLE_KEY };
  }
  const key = values.key ?? (url === Deno.env.get("API_URL") ? Deno.env.get("PUBLISHABLE_KEY") : undefined);
  return { url, key };
}

/** Gives the token for each request: one that was logged in for is renewed, a given one is not. */
async function authenticate({ url, key, token, email, password }: Options): Promise<() => Promise<string>> {
  if (token) return () => Promise.resolve(token);
  const client = createClient(url, key!, { auth: { persistSession: false, autoRefreshToken: false } });
  const { error } = await client.auth.signInWithPassword({ email: email!, password: password! });
  if (error) throw new StackError(`Logging in failed: ${error.message}`);
  return async () => {
    const { data: { session }, error } = await client.auth.getSession();
    if (!session) throw new StackError(`The session has ended: ${error?.message ?? "log in again"}`);
    return session.access_token;
  };
}

/** Whom a token names. Whether it is good, the API says. */
function accountOf(token: string): string {
  try {
    const { email, sub } = decodeJwt<{ email?: string }>(token);
    return email || sub || "?";
  } catch {
    throw new StackError("The access token is not one: a JSON Web Token is expected.");
  }
}

/** Sums up, and tells how far it is. */
class Progress {
  readonly total = { imported: 0, grown: 0, unchanged: 0, failed: 0, skipped: 0, messages: 0, notes: 0 };
  readonly leftOut: Record<string, number> = {};
  readonly #size: number;
  readonly #verbose: boolean;
  bytesRead = 0;
  /** Before whatever is told of the file that is being read, where there are several. */
  prefix = "";

  constructor(size: number, verbose: boolean) {
    this.#size = size;
    this.#verbose = verbose;
  }

  add(report: ImportReport): void {
    for (const entry of report.conversations) this.#show(entry);
    for (const name of ["imported", "grown", "unchanged", "failed", "skipped", "messages"] as const) {
      this.total[name] += report[name];
    }
    this.leaveOut(report.left_out);
    this.show();
  }

  fail(text: string): void {
    this.total.failed++;
    console.error(`${this.prefix}${text}`);
  }

  note(name: string, notes: string[]): void {
    this.total.notes += notes.length;
    if (this.#verbose) { for (const note of notes) console.error(`${this.prefix}${name}: ${note}`); }
  }

  leaveOut(counts: Record<string, number> = {}): void {
    for (const [kind, count] of Object.entries(counts)) this.leftOut[kind] = (this.leftOut[kind] ?? 0) + count;
  }

  show(): void {
    const percent = this.#size > 0 ? Math.min(100, this.bytesRead / this.#size * 100) : 100;
    const { imported, failed, messages } = this.total;
    const failures = failed > 0 ? `, ${failed} failed` : "";
    console.error(`${percent.toFixed(0).padStart(3)} %  ${imported} conversations, ${messages} messages${failures}`);
  }

  #show({ line, id, error, notes }: ImportEntry): void {
    const name = `${line}${id === null ? "" : ` (${id})`}`;
    this.note(name, notes);
    if (!error) return;
    const where = error.line && error.line !== line ? `, line ${error.line}` : "";
    console.error(`${this.prefix}${name}${where}: ${inWords(error)}`);
  }
}

/** An error of the API, with what it says of the reason. */
function inWords({ code, message, details, hint }: ImportError): string {
  const reasons = Array.isArray(details)
    ? details.map(({ path, message }) => `${path ? `${path}: ` : ""}${message}`).join("; ")
    : details;
  return `${code}: ${reasons || message}${hint ? ` ${hint}` : ""}`;
}

async function importNdjson(chunks: AsyncIterable<string>, splitter: Splitter, progress: Progress): Promise<void> {
  const seen = { conversations: 0, tombstones: 0, messages: 0 };
  let end: { [key: string]: unknown } | undefined;
  let goesOn = false;
  let number = 0;
  for await (const bytes of readLines(chunks)) {
    number++;
    const line = decode(bytes);
    if (line.trim() === "") continue;
    const type = lineType(line);
    goesOn = type === "next";
    if (goesOn) {
      // Between two pieces of an export.
    } else if (type === "end") {
      const value = parseLine(line);
      if (!value) progress.fail(`Line ${number}: the file's last line is broken: it may have been cut.`);
      end = value ?? seen;
    } else if (type === "error") {
      splitter.drop();
      progress.fail(`Line ${number}: the export ended here with an error, the conversation above it is left out.`);
      end = seen;
    } else if (type === "conversation") {
      // A broken one counts as well: the API tells what is wrong with it.
      seen[/"deleted"\s*:\s*true/.test(line) && parseLine(line)?.deleted ? "tombstones" : "conversations"]++;
      await splitter.begin(line, number);
    } else {
      if (type === "message") seen.messages++;
      await splitter.add(line, number);
    }
  }
  await splitter.end();
  if (goesOn) {
    return progress.fail("The file ends where the next piece of the export begins, at the cursor of its last line.");
  }
  if (!end) return progress.fail("The file has no end line: it may have been cut.");
  for (const name of ["conversations", "tombstones", "messages"] as const) {
    if ((end[name] ?? seen[name]) === seen[name]) continue;
    progress.fail(`The file has ${seen[name]} ${name}, its end says ${end[name]}.`);
  }
}

/** The object in a line; nothing if it is broken. */
function parseLine(line: string): { [key: string]: unknown } | undefined {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

async function importChatGpt(chunks: AsyncIterable<string>, splitter: Splitter, progress: Progress): Promise<void> {
  let number = 0;
  try {
    for await (const element of readElements(chunks)) {
      number++;
      for (const record of convert(decode(element), number)) {
        const { error, notes, left_out, ...rest } = record;
        progress.note(`${number} (${rest.id})`, notes);
        progress.leaveOut(left_out);
        if (error) {
          progress.fail(`${number}: ${inWords(error)}`);
          continue;
        }
        await splitter.begin(JSON.stringify({ type: "conversation", id: rest.id, ...rest.conversation }), number);
        for (const { type, ...message } of rest.messages) {
          await splitter.add(JSON.stringify({ type: "message", message_type: type, ...message }), number);
        }
      }
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    progress.fail(error.message);
  }
  await splitter.end();
}

function convert(element: string, number: number): ImportRecord[] {
  try {
    return readChatGpt(JSON.parse(element), number);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return [{
      line: number,
      id: null,
      conversation: {},
      messages: [],
      notes: [],
      error: { code: "invalid_json", message: error.message, retryable: false },
    }];
  }
}

async function importSource(source: Source, splitter: Splitter, progress: Progress): Promise<void> {
  const read = async function* () {
    try {
      for await (const chunk of source.open()) {
        progress.bytesRead += chunk.length;
        yield chunk;
      }
    } catch (error) {
      // What was read until here is imported.
      progress.fail(`${source.name}: ${(error as Error).message}`);
    }
  };
  const chunks = readBytes(read());
  const first = await chunks.next();
  const all = (async function* () {
    if (!first.done) yield first.value;
    yield* { [Symbol.asyncIterator]: () => chunks };
  })();
  const isArray = /^\s*\[/.test(first.value ?? "");
  await (isArray ? importChatGpt : importNdjson)(all, splitter, progress);
}

async function main(): Promise<number> {
  const options = await readOptions();
  const sources = await findSources(options.files);
  const progress = new Progress(sources.reduce((sum, { size }) => sum + size, 0), options.verbose);
  const account = options.token ? accountOf(options.token) : options.email;
  console.error(
    `Importing ${sources.map(({ name }) => name).join(", ")} into the account ${account} of ${options.url}`,
  );
  const token = await authenticate(options);

  const send = async (body: string, attempt = 0): Promise<ImportReport> => {
    const response = await fetch(`${options.url}/functions/v1/conversations/import`, {
      method: "POST",
      headers: {
        ...(options.key && { apikey: options.key }),
        authorization: `Bearer ${await token()}`,
        "content-type": "application/x-ndjson",
      },
      body,
    }).catch((error: Error) => error);
    // Only what surely did nothing is sent again: what broke off later may have imported some of it.
    const untouched = response instanceof Error
      ? /connection refused|connect error/i.test(response.message)
      : response.status === 503;
    if (untouched && attempt < RETRIES) {
      if (response instanceof Response) await response.body?.cancel();
      await new Promise((resolve) => setTimeout(resolve, 500 * 4 ** attempt));
      return send(body, attempt + 1);
    }
    if (response instanceof Error) throw new StackError(`The API cannot be reached: ${response.message}`);
    const answer = await response.text().catch((error: Error) => error.message);
    const report = parseLine(answer);
    if (response.ok && report) return report as unknown as ImportReport;
    const error = report as ImportError | undefined;
    throw new StackError(
      `The API answered ${response.status}: ${error?.code && error.message ? inWords(error) : answer.slice(0, 1000)}`,
    );
  };
  try {
    for (const source of sources) {
      progress.prefix = sources.length > 1 ? `${source.name}: ` : "";
      await importSource(source, new Splitter({ send, onReport: (report) => progress.add(report) }), progress);
    }
  } catch (error) {
    if (!(error instanceof StackError)) throw error;
    progress.fail(`Stopped, and the rest was not sent. ${error.message}`);
  }

  const { imported, grown, unchanged, failed, skipped, messages, notes } = progress.total;
  const leftOut = Object.entries(progress.leftOut).map(([kind, count]) => `${count} ${kind}`);
  if (leftOut.length > 0) console.error(`Left out: ${leftOut.join(", ")}.`);
  console.log(
    `Imported ${imported} conversations with ${messages} messages; ${failed} failed, ${skipped} skipped` +
      (grown + unchanged > 0 ? `; ${grown} were there and have grown, ${unchanged} are unchanged` : "") +
      (notes > 0 && !options.verbose ? `; ${notes} notes (--verbose).` : "."),
  );
  return failed > 0 ? 1 : 0;
}

await run(main);
