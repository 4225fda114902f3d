import { assert, assertEquals } from "@std/assert";
import { ApiError, type ErrorCode, ERRORS, fromDatabase } from "../../supabase/functions/_shared/errors.ts";

// deno-lint-ignore no-explicit-any -- supabase-js builds it from the same four fields
const raised = (code: string, message: string, details: string | null = null): any => ({
  code,
  message,
  details,
  hint: null,
});

Deno.test("what our SQL raises becomes its status and slug", () => {
  const error = fromDatabase(raised("PT409", "sequence_conflict", "The conversation is at 3."), 409);
  assertEquals(
    [error.status, error.code, error.body("r").details],
    [409, "sequence_conflict", "The conversation is at 3."],
  );
});

Deno.test("a detail that is the JSON of failing paths is answered as those of a body are", () => {
  const details = [{ path: "filters.age.$foo", message: "There is no such operator." }];
  const error = fromDatabase(raised("PT400", "invalid_request", JSON.stringify(details)), 400);
  assertEquals(error.body("r").details, details);
});

Deno.test("a slug that is not part of the API is not passed on", () => {
  const error = fromDatabase(raised("PT409", "select secret from somewhere"), 409);
  assertEquals([error.status, error.code], [500, "internal_error"]);
});

Deno.test("database errors become statuses by their code, and say nothing of their content", () => {
  for (
    const [code, status, slug] of [
      ["23514", 400, "invalid_request"],
      ["22P02", 400, "invalid_request"],
      ["23505", 409, "conflict"],
      ["57014", 503, "timeout"],
      ["57P01", 503, "database_unavailable"],
      ["55P03", 503, "conversation_busy"],
      ["40P01", 503, "conversation_busy"],
      ["53300", 503, "database_busy"],
      ["53100", 507, "storage_full"],
      ["PGRST001", 503, "database_unavailable"],
      ["PGRST303", 401, "unauthorized"],
      ["42P01", 500, "internal_error"],
    ] as const
  ) {
    const error = fromDatabase(raised(code, "prose with a confidence", "Failing row contains (confidence)"), 500);
    assertEquals([error.status, error.code], [status, slug], code);
    assertEquals(JSON.stringify(error.body("r")).includes("confidence"), false);
  }
});

Deno.test("a check of our own says which rule it is", () => {
  const rule = "title of conversations has more than 1,000 characters.";
  assertEquals(fromDatabase(raised("23514", rule, "Failing row contains (x)"), 400).body("r").details, rule);
});

Deno.test("no answer at all is database_unavailable", () => {
  const error = fromDatabase(raised("", "TypeError: fetch failed"), 0);
  assertEquals([error.status, error.code], [503, "database_unavailable"]);
});

Deno.test("whose user is gone is nobody; another row that is gone is a conflict", () => {
  const violated = (key: string) =>
    raised("23503", `insert or update on table "x" violates foreign key constraint "${key}"`);
  assertEquals(fromDatabase(violated("conversations_user_id_fkey"), 409).code, "unauthorized");
  assertEquals(fromDatabase(violated("conversations_video_id_fkey"), 409).code, "conflict");
});

const codes = Object.keys(ERRORS) as ErrorCode[];

Deno.test("an error says whether to repeat the request, in its body and its headers", () => {
  for (const code of codes) {
    const status: number = ERRORS[code].status;
    const error = new ApiError(ERRORS[code].status, code, { headers: { location: "/x" } });
    const { retryable } = error.body("r");
    assertEquals(retryable, status === 429 || status === 503, code);
    if (code === "quota_exceeded") continue;
    assertEquals(
      error.headers,
      { location: "/x", ...(retryable ? { "retry-after": "1" } : { "x-should-retry": "false" }) },
    );
  }
});

Deno.test("a quota is there again when the day ends, which no client should wait for on its own", () => {
  const before = 86_400 - Date.now() / 1000 % 86_400;
  const { "retry-after": seconds, ...headers } = new ApiError(429, "quota_exceeded").headers;
  assert(Number(seconds) >= 1 && Math.abs(Number(seconds) - before) < 60, seconds);
  assertEquals(headers, { "x-should-retry": "false" });
});

Deno.test("docs/errors.md has every code, as the table in errors.ts has it", async () => {
  const page = await Deno.readTextFile(new URL("../../docs/errors.md", import.meta.url));
  const rows = page.split("\n").filter((line) => line.startsWith("| `"));
  assertEquals(
    rows,
    codes.map((code) => {
      const error = new ApiError(ERRORS[code].status, code);
      return `| \`${code}\` | ${error.status} | ${error.retryable ? "yes" : "no"} | ${error.message} |`;
    }),
  );
});

Deno.test("what our SQL and our functions raise has the status of its code", async () => {
  const root = new URL("../../supabase/", import.meta.url);
  const raised: [status: number, code: string][] = [];
  for (const directory of ["schemas", "functions"]) {
    for await (const path of files(new URL(`${directory}/`, root))) {
      const source = await Deno.readTextFile(path);
      for (const [, status, code] of source.matchAll(/sqlstate 'PT(\d+)' using\s+message = '(\w+)'/g)) {
        raised.push([Number(status), code]);
      }
      for (const [, status, code] of source.matchAll(/new ApiError\((\d+), "(\w+)"/g)) {
        raised.push([Number(status), code]);
      }
    }
  }
  assert(raised.length > 40, `${raised.length}`);
  for (const [status, code] of raised) assertEquals(ERRORS[code as ErrorCode]?.status, status, code);
});

async function* files(directory: URL): AsyncGenerator<URL> {
  for await (const { name, isDirectory } of Deno.readDir(directory)) {
    if (isDirectory) yield* files(new URL(`${name}/`, directory));
    else if (/\.(sql|ts)$/.test(name)) yield new URL(name, directory);
  }
}
