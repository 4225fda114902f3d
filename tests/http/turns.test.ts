// Large requests of one user, one after the other: in the function's own process, before a REST API that answers when it is told.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { MAX_WAIT_MS, MAX_WAITING } from "../../supabase/functions/_shared/turns.ts";
import { functions } from "../support/apps.ts";
import { countCalls } from "../support/calls.ts";
import { secretKey } from "../support/stack.ts";

const uuid = () => crypto.randomUUID();
const appOf = (path: string) => functions.find(({ name }) => path.startsWith(`/${name}`))!.app;

/** One request, in this process. Without a user it is the backend's own. */
async function ask(user: string | undefined, method: string, path: string, body?: string | ReadableStream) {
  const headers = { apikey: secretKey, ...(user && { "x-user-id": user }), "content-type": "application/json" };
  const length = typeof body === "string" ? { "content-length": `${body.length}` } : undefined;
  const response = await appOf(path).request(path, { method, body, headers: { ...headers, ...length } });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text && JSON.parse(text.split("\n")[0]) };
}

/** A REST API that holds what comes until it is let go. What is not of the database's own is answered `{}`. */
async function holdCalls() {
  const released = Promise.withResolvers<void>();
  const counted = await countCalls(async () => {
    await released.promise;
    return Response.json({
      data: [],
      has_more: false,
      last: null,
      next: null,
      messages: [],
      items: [],
      documents: [],
      lines: "",
    });
  });
  return {
    release: () => released.resolve(),
    calls: counted.calls,
    /** Until so many are there, and no more follow. */
    async settle(count: number) {
      while (counted.calls.length < count) await new Promise((resolve) => setTimeout(resolve, 10));
      await new Promise((resolve) => setTimeout(resolve, 100));
      return counted.calls.length;
    },
    async [Symbol.asyncDispose]() {
      released.resolve();
      await counted[Symbol.asyncDispose]();
    },
  };
}

const text = (length: number) => "x".repeat(length);
const many = (count: number, element: unknown) => Array(count).fill(element);
const append = (...messages: unknown[]) => JSON.stringify({ messages });
const say = (content: string) => ({ role: "user", content });

const LARGE: Record<string, [method: string, path: string, body?: string]> = {
  "a search": ["GET", "/conversations/search?q=word"],
  "a context": ["GET", `/conversations/${uuid()}/context?max_tokens=100001`],
  "a page of more than 100": ["GET", "/conversations?limit=101"],
  "an export": ["GET", "/conversations/export"],
  "an export of all": ["GET", "/users/me/export"],
  "a body of more than 256 KiB": ["POST", `/conversations/${uuid()}/messages`, append(say(text(256 * 1024)))],
  "a body of more than 1,000 values": ["POST", `/conversations/${uuid()}/messages`, append(...many(500, say("x")))],
  "an audit": ["GET", "/sessions/audit"],
  "analytics": ["GET", "/sessions/analytics"],
  "a caller's context": ["GET", "/sessions/context?max_tokens=100001"],
  "a filter of more than 32 values": [
    "POST",
    "/documents/things/count",
    JSON.stringify({ filters: { a: { $in: many(32, 1) } } }),
  ],
};
const SMALL: Record<string, [method: string, path: string, body?: string]> = {
  "an append": ["POST", `/conversations/${uuid()}/messages`, append(say(text(200 * 1024)))],
  "a page": ["GET", "/conversations?limit=100"],
  "a usual context": ["GET", `/conversations/${uuid()}/context?max_tokens=100000`],
  "a document": ["POST", "/documents/things/insert_one", JSON.stringify({ document: { a: many(400, 1) } })],
  "a filter": ["POST", "/documents/things/find", JSON.stringify({ filters: { a: 1 } })],
};

Deno.test("large requests of one user are worked on one after the other; small ones, and others', meanwhile", async () => {
  const [alice, bob] = [uuid(), uuid()];
  await using held = await holdCalls();
  const asked = Object.values(LARGE).map((request) => ask(alice, ...request));
  assertEquals(await held.settle(1), 1);
  const small = Object.values(SMALL);
  asked.push(...small.map((request) => ask(alice, ...request)));
  assertEquals(await held.settle(1 + small.length), 1 + small.length);
  asked.push(ask(bob, ...LARGE["a search"]));
  assertEquals(await held.settle(2 + small.length), 2 + small.length);
  // The backend's own are not anybody's.
  asked.push(ask(undefined, ...LARGE["an audit"]), ask(undefined, ...LARGE["an audit"]));
  assertEquals(await held.settle(4 + small.length), 4 + small.length);
  held.release();
  const answers = await Promise.all(asked);
  assertEquals(held.calls.length, asked.length); // all of them had their turn, and none was asked for twice
  assert(answers.every(({ status }) => status < 300), JSON.stringify(answers.map(({ status }) => status)));
});

Deno.test("whoever has too many waiting, or waits too long, is told to come again", async () => {
  const [alice, bob] = [uuid(), uuid()];
  await using held = await holdCalls();
  const first = ask(alice, ...LARGE["a search"]);
  await held.settle(1);
  const startedAt = performance.now();
  const waiting = many(MAX_WAITING, 0).map(() => ask(alice, ...LARGE["a search"]));
  await held.settle(1);
  const assertBusy = ({ status, headers, body }: Awaited<typeof first>) => {
    assertEquals([status, body.code, body.retryable], [429, "user_busy", true]);
    assertMatch(headers.get("retry-after") ?? "", /^\d+$/);
    assertEquals(headers.get("x-should-retry"), null);
  };
  const refused = await ask(alice, ...LARGE["a context"]);
  assertBusy(refused);
  assert(performance.now() - startedAt < MAX_WAIT_MS, "at once");
  const other = ask(bob, ...LARGE["a context"]);
  assertEquals(await held.settle(2), 2);
  (await Promise.all(waiting)).forEach(assertBusy);
  assert(performance.now() - startedAt >= MAX_WAIT_MS - 100);
  held.release();
  assertEquals([(await first).status, (await other).status], [200, 200]);
  assertEquals((await ask(alice, ...LARGE["a search"])).status, 200);
});

Deno.test("a large request that fails gives its turn to the next", async () => {
  const alice = uuid();
  await using held = await holdCalls();
  held.release();
  const wrong = [`[${text(300_000)}`, JSON.stringify({ x: text(300_000) }), append(...many(500, { role: "nobody" }))];
  const streams = wrong.map((body) => new Blob([body]).stream()); // of no known length
  const answers = await Promise.all([...wrong, ...streams].map((body) => ask(alice, "POST", "/conversations", body)));
  assertEquals(answers.map(({ status }) => status), answers.map(() => 400));
  assertEquals((await ask(alice, ...LARGE["a search"])).status, 200);
});

Deno.test("an import lets others of its user in between two conversations", async () => {
  const alice = uuid();
  const held = await holdCalls();
  await using _ = held;
  const body = '{"type":"conversation"}\n'.repeat(3);
  const imported = appOf("/conversations").request("/conversations/import", {
    method: "POST",
    body,
    headers: { apikey: secretKey, "x-user-id": alice, "content-type": "application/x-ndjson" },
  });
  await held.settle(1);
  const search = ask(alice, ...LARGE["a search"]);
  await held.settle(1);
  held.release();
  assertEquals((await search).status, 200);
  await (await imported).body?.cancel();
  const paths = held.calls.map((path) => path.split("/").at(-1));
  assertEquals(paths.slice(0, 3), ["import_conversation", "search_messages", "import_conversation"]);
});
