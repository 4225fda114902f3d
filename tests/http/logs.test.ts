// What the stack logs of a user who is erased: nothing that they wrote, and not who they are.
import { assert, assertEquals } from "@std/assert";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { startStack } from "../../local/stack.ts";

const SECRET = "Quetzalcoatlus";

Deno.test("no log of the stack has what a user wrote, nor their id", async () => {
  await using cleanUp = new AsyncDisposableStack();
  const dataDir = join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
  cleanUp.defer(() => Deno.remove(dataDir, { recursive: true }));
  const lines: string[] = [];
  const stack = await startStack({
    port: 0,
    dbPort: 0,
    dataDir,
    postgresBin: Deno.env.get("POSTGRES_BIN") || undefined,
    log: (line) => lines.push(line),
  });
  cleanUp.defer(stack.stop);
  const sql = postgres(stack.adminDbUrl, { max: 1, onnotice: () => {} });
  cleanUp.defer(() => sql.end());
  const send = async (headers: Record<string, string>, method: string, path: string, body?: unknown) => {
    const response = await fetch(stack.apiUrl + path, {
      method,
      headers: { "content-type": "application/json", ...headers },
      body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : null };
  };
  const email = `${SECRET}@example.com`;
  const { body: { access_token, user } } = await send(
    { apikey: stack.publishableKey },
    "POST",
    "/auth/v1/signup",
    { email, password: crypto.randomUUID() },
  );
  const headers = { apikey: stack.publishableKey, authorization: `Bearer ${access_token}` };
  const service = { apikey: stack.secretKey, "x-user-id": user.id };
  const functions = (method: string, path: string, body?: unknown) =>
    send(headers, method, `/functions/v1${path}`, body);

  const messages = [{ role: "user", content: SECRET }];
  const { body: { id } } = await functions("POST", "/conversations", { title: SECRET, messages });
  const session = crypto.randomUUID();
  await functions("POST", "/sessions", { id: session, metadata: { name: SECRET } });
  const answered: number[] = [];
  for (
    const [method, path, body] of [
      ["POST", `/conversations/${id}/messages`, { messages }],
      ["GET", `/conversations/search?q=${SECRET}`],
      ["GET", `/sessions/audit?q=${SECRET}`],
      ["POST", `/sessions/${session}/events`, { events: [{ event_type: "user_message", content: SECRET }] }],
      ["POST", `/documents/${SECRET}/insert_one`, { document: { id: SECRET, creation_utc: "2026-01-01T00:00:00Z" } }],
      ["POST", `/documents/${SECRET}/find`, { filters: { name: { $like: `%${SECRET}%` } } }],
      // What is refused, in every place that can.
      ["POST", "/conversations", `{"title": "${SECRET}", "title": "twice"}`],
      ["POST", "/conversations", `{"title": "${SECRET}`],
      ["POST", `/conversations/${id}/messages`, { messages: [{ role: SECRET }] }],
      ["GET", `/conversations/${SECRET}`],
      ["POST", `/conversations/${id}/messages`, { messages, expected_sequence: 99 }],
      ["POST", "/conversations/import", [{ id: SECRET, mapping: { a: SECRET } }]],
    ] as const
  ) answered.push((await functions(method, path, body)).status);
  for (
    const [path, body] of [
      ["rpc/append_messages", { p_conversation_id: id, p_messages: [{ role: SECRET, content: SECRET }] }],
      ["conversation_messages", { conversation_id: id, role: SECRET, content: SECRET }],
      ["conversations", { title: SECRET.repeat(100) }],
    ] as const
  ) answered.push((await send(headers, "POST", `/rest/v1/${path}`, body)).status);
  // Most do what they say or are refused; none is a failure of ours.
  assert(answered.filter((status) => status < 300).length >= 6, `${answered}`);
  assert(answered.filter((status) => status >= 400 && status < 500).length >= 8, `${answered}`);
  assert(answered.every((status) => status < 500), `${answered}`);

  const { body: receipt } = await send(service, "DELETE", "/functions/v1/users/me?confirm=all");
  let erased = false;
  for (let i = 0; i < 100 && !erased; i++) {
    const { body } = await send(service, "GET", `/functions/v1/users/erasures/${receipt.id}`);
    erased = body.finished_at !== null;
    if (!erased) await delay(500);
  }
  assert(erased, "the erasure has ended");
  // A failure of ours is logged with its route, not with the names in it.
  await sql`alter function public.find_document rename to find_nothing`;
  const failed = await functions("POST", `/documents/${SECRET}/find_one`, { filters: {} });
  assert(failed.status >= 500, `${failed.status}`);
  // The control: what is logged is found.
  await sql`do $$ begin raise log 'a line of Postgres'; end $$`;
  await delay(500);

  const logFile = [...Deno.readDirSync(dataDir)].find(({ name }) => name.endsWith(".log"))!.name;
  const log = await Deno.readTextFile(join(dataDir, logFile));
  assert(log.includes("a line of Postgres") && log.includes("ERROR"));
  assert(
    lines.some((line) => line.includes("/documents/:collection/find_one")),
    "what the functions print was collected",
  );
  for (const trace of [SECRET, SECRET.toLowerCase(), user.id, user.id.replaceAll("-", ""), id, session]) {
    const found = [...log.split("\n"), ...lines].filter((line) => line.includes(trace));
    assertEquals(found, [], trace);
  }
});
