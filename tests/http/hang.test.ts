// A database that hangs: Postgres stopped by SIGSTOP, on a stack of its own.
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Stack, startStack } from "../../local/stack.ts";
import { functions } from "../support/apps.ts";
import { ApiError } from "../../supabase/functions/_shared/errors.ts";
import { callRaw, callThrough, clientOptions } from "../../supabase/functions/_shared/rpc.ts";
import { createClient } from "@supabase/supabase-js";
import { countCalls } from "../support/calls.ts";
import { secretKey } from "../support/stack.ts";

/** What is promised, and what a machine with other things to do may add to it. */
const FIRST_BYTE_MS = 10_000;
const HEALTH_MS = 3_000;
const MARGIN_MS = 10_000;

const uuid = () => crypto.randomUUID();
const alice = "a11ce000-0000-4000-8000-000000000001";

async function processes(postmaster: number): Promise<number[]> {
  const { stdout } = await new Deno.Command("ps", { args: ["-eo", "pid=,ppid="] }).output();
  const all = new TextDecoder().decode(stdout).trim().split("\n").map((line) => line.trim().split(/\s+/).map(Number));
  return [postmaster, ...all.filter(([, parent]) => parent === postmaster).map(([pid]) => pid)];
}

/** Stops Postgres while `use` runs: the backends that serve requests as well, or only the postmaster that makes them. */
async function whileStopped(stack: Stack, which: "postmaster" | "all", use: () => Promise<void>): Promise<void> {
  const pids = which === "all" ? await processes(stack.postgresPid) : [stack.postgresPid];
  pids.forEach((pid) => Deno.kill(pid, "SIGSTOP"));
  try {
    await use();
  } finally {
    pids.forEach((pid) => Deno.kill(pid, "SIGCONT"));
  }
}

/** How each route is asked so that it gets as far as the database: what comes behind the path, and the body. */
const REQUESTS: Record<string, [query: string, body?: object]> = {
  "POST /conversations": ["", {}],
  "DELETE /conversations": ["?confirm=all"],
  "GET /conversations/search": ["?q=word"],
  "PATCH /conversations/:id": ["", { title: "x" }],
  "POST /conversations/:id/messages": ["", { messages: [{ role: "user", content: "x" }] }],
  "POST /conversations/:id/fork": ["", { at: 1 }],
  "POST /documents/:collection/find": ["", {}],
  "POST /documents/:collection/find_one": ["", {}],
  "POST /documents/:collection/count": ["", {}],
  "POST /documents/:collection/insert_one": ["", { document: {} }],
  "POST /documents/:collection/insert_many": ["", { documents: [{}] }],
  "POST /documents/:collection/update_one": ["", { filters: {}, params: { a: 1 } }],
  "POST /documents/:collection/delete_one": ["", { filters: {} }],
  "POST /documents/:collection/delete_many": ["", { filters: {} }],
  "POST /documents/:collection/drop": ["", {}],
  "PUT /documents/:collection/version": ["", { version: "1", expected_version: null }],
  "POST /documents/:collection/failures": ["", { id: "x", reason: "x" }],
  "POST /documents/:collection/failures/restore": ["", { id: "x" }],
  "POST /documents/:collection/indexes": ["", { field: "x" }],
  "DELETE /documents/:collection/indexes": ["?field=x"],
  "POST /openai/v1/conversations": ["", {}],
  "POST /openai/v1/conversations/:conversation_id": ["", { metadata: {} }],
  "POST /openai/v1/conversations/:conversation_id/items": ["", {
    items: [{ type: "message", role: "user", content: "x" }],
  }],
  "PUT /responses/:id": ["", { input: "x", output: [], model: "m", provider: "p" }],
  "POST /responses/:id/merge": ["", { input: "x" }],
  "POST /sessions": ["", {}],
  "POST /sessions/:id/end": ["", {}],
  "POST /sessions/:id/events": ["", { events: [{ event_type: "user_message", content: "x" }] }],
  "DELETE /users/me": ["?confirm=all"],
};

/** All but those that need no database, and the import, which reports what became of each conversation. */
const routes = functions.flatMap((edge) => edge.routes)
  .filter(({ path, name }) => !/\/(health|openapi\.json)$/.test(path) && name !== "POST /conversations/import");

interface Asked {
  method?: string;
  headers?: Record<string, string>;
  body?: string;
}

/** @returns The answer, and after how many milliseconds it began. */
async function ask({ apiUrl, secretKey }: Stack, path: string, { method = "GET", headers, body }: Asked = {}) {
  const startedAt = performance.now();
  const response = await fetch(apiUrl + path, {
    method,
    headers: { apikey: secretKey, "x-user-id": alice, "content-type": "application/json", ...headers },
    body,
    signal: AbortSignal.timeout(FIRST_BYTE_MS + MARGIN_MS),
  });
  const ms = performance.now() - startedAt;
  return { status: response.status, ms, text: await response.text() };
}

function askRoute(stack: Stack, { method, path, name }: (typeof routes)[number]) {
  const [query, body] = REQUESTS[name] ?? [""];
  const filled = path.replace(":conversation_id", () => `conv_${uuid().replaceAll("-", "")}`)
    .replaceAll(/:\w*id\b/g, uuid).replaceAll(/:\w+/g, "things");
  // A user of its own: one user's large requests would wait for each other.
  const headers = { "x-user-id": uuid() };
  return ask(stack, `/functions/v1${filled}${query}`, { method, headers, body: body && JSON.stringify(body) });
}

/** What a reader of a session's events gets, who asks again when the stream ends. */
function follow({ apiUrl, secretKey }: Stack, id: string) {
  const closed = new AbortController();
  let text = "";
  const reading = (async () => {
    while (!closed.signal.aborted) {
      const response = await fetch(`${apiUrl}/functions/v1/sessions/${id}/events/stream`, {
        headers: { apikey: secretKey },
        signal: closed.signal,
      });
      for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) text += chunk;
    }
  })().catch((error) => {
    if (!closed.signal.aborted) throw error;
  });
  return {
    until: (pattern: RegExp) => eventually(() => pattern.test(text)),
    async [Symbol.asyncDispose]() {
      closed.abort();
      await reading;
    },
  };
}

async function eventually(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!await condition()) await new Promise((resolve) => setTimeout(resolve, 50));
}

Deno.test("with Postgres stopped everything answers in time, open streams too, and all is well when it goes on", async () => {
  const dataDir = join(tmpdir(), `threadbase-test-${uuid()}`);
  const postgresBin = Deno.env.get("POSTGRES_BIN") || undefined;
  const stack = await startStack({ port: 0, dbPort: 0, dataDir, postgresBin });
  const health = (name: string) => ask(stack, `/functions/v1/${name}/health`);
  const append = (id: string, content: string) => {
    const body = JSON.stringify({ events: [{ event_type: "user_message", content }] });
    return ask(stack, `/functions/v1/sessions/${id}/events`, { method: "POST", body });
  };
  try {
    const { id } = JSON.parse((await ask(stack, "/functions/v1/sessions", { method: "POST", body: "{}" })).text);
    await append(id, "before");
    await using stream = follow(stack, id);
    await stream.until(/"content":"before"/);

    await whileStopped(stack, "all", async () => {
      const stopped = performance.now();
      const told = stream.until(/event: error\ndata: {"code":"database_unavailable"/)
        .then(() => performance.now() - stopped);
      const healths = functions.map(async ({ name }) => [name, await health(name)] as const);
      const asked = routes.map(async (route) => [route.name, await askRoute(stack, route)] as const);
      const imported = ask(stack, "/functions/v1/conversations/import", {
        method: "POST",
        headers: { "content-type": "application/x-ndjson" },
        body: '{"type":"conversation","id":"a"}\n{"type":"conversation","id":"b"}\n',
      });
      const token = ask(stack, "/auth/v1/token?grant_type=password", {
        method: "POST",
        headers: { apikey: stack.publishableKey },
        body: JSON.stringify({ email: "alice@example.com", password: "threadbase-demo" }),
      });
      const rest = ask(stack, "/rest/v1/conversations");

      for (const [name, { status, text, ms }] of await Promise.all(healths)) {
        assertMatch(text, /"database_unavailable"/, name);
        assertEquals(status, 503, name);
        assert(ms < HEALTH_MS + MARGIN_MS, `health of ${name} took ${ms} ms`);
      }
      for (const [name, { status, text, ms }] of await Promise.all(asked)) {
        assertMatch(text, /"database_unavailable"/, name);
        assertEquals(status, 503, name);
        assert(ms < FIRST_BYTE_MS + MARGIN_MS, `${name} took ${ms} ms`);
      }
      const report = JSON.parse((await imported).text);
      assertEquals(
        report.conversations.map(({ error }: { error: { code: string } }) => error.code),
        ["database_unavailable", "database_unavailable"],
      );
      assertEquals([(await token).status, (await rest).status], [504, 504]);
      assert(await told < FIRST_BYTE_MS + MARGIN_MS, `the stream told it after ${await told} ms`);
    });

    await eventually(async () => (await health("sessions")).status === 200);
    assertEquals((await append(id, "after")).status, 201);
    await stream.until(/"content":"after"/);
    assertEquals(
      await Promise.all(functions.map(async ({ name }) => (await health(name)).status)),
      functions.map(() => 200),
    );
  } finally {
    await stack.stop();
    await Deno.remove(dataDir, { recursive: true });
  }
});

Deno.test("with only the postmaster stopped, so that nobody new can connect, requests are answered in time as well", async () => {
  const dataDir = join(tmpdir(), `threadbase-test-${uuid()}`);
  const postgresBin = Deno.env.get("POSTGRES_BIN") || undefined;
  const stack = await startStack({ port: 0, dbPort: 0, dataDir, postgresBin });
  try {
    await whileStopped(stack, "postmaster", async () => {
      // More at a time than connections were made so far.
      const answers = await Promise.all(Array.from({ length: 60 }, () => ask(stack, "/functions/v1/sessions")));
      for (const { status, ms } of answers) {
        assert(status === 200 || status === 503, `${status}`);
        assert(ms < FIRST_BYTE_MS + MARGIN_MS, `${ms} ms`);
      }
    });
    await eventually(async () => (await ask(stack, "/functions/v1/sessions")).status === 200);
  } finally {
    await stack.stop();
    await Deno.remove(dataDir, { recursive: true });
  }
});

Deno.test("a REST API that accepts a call and never answers is not waited for either", async () => {
  const released = Promise.withResolvers<void>();
  await using counted = await countCalls(() => released.promise);
  const [{ app }] = functions;
  const timed = async (path: string) => {
    const startedAt = performance.now();
    const response = await app.request(path, { headers: { apikey: secretKey, "x-user-id": uuid() } });
    const { code } = await response.json();
    return { status: response.status, code, ms: performance.now() - startedAt };
  };
  const unavailable = { status: 503, code: "database_unavailable" };
  const [{ ms: health, ...healthAnswer }, { ms: list, ...listAnswer }] = await Promise.all([
    timed("/conversations/health"),
    timed("/conversations"),
  ]);
  released.resolve();
  assertEquals([healthAnswer, listAnswer], [unavailable, unavailable]);
  assertEquals(counted.calls.length, 2);
  assert(health < HEALTH_MS + MARGIN_MS, `${health} ms`);
  assert(list < FIRST_BYTE_MS + MARGIN_MS, `${list} ms`);
});

Deno.test("an answer that is passed on takes as long as its reader, and one that is read here comes in time", async () => {
  const slow = Promise.withResolvers<void>();
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, () => {
    const encoder = new TextEncoder();
    const body = new ReadableStream({
      async start(controller) {
        controller.enqueue(encoder.encode('{"first":1,'));
        await slow.promise;
        controller.enqueue(encoder.encode('"last":2}'));
        controller.close();
      },
    });
    return new Response(body, { headers: { "content-type": "application/json" } });
  });
  const client = createClient(`http://127.0.0.1:${server.addr.port}`, "key", {
    ...clientOptions,
    auth: { persistSession: false },
  });
  const startedAt = performance.now();
  const passed = await callThrough(client.rpc("get")); // with the rest to come
  const error = await assertRejects(() => callRaw(client.rpc("get")), ApiError);
  const ms = performance.now() - startedAt;
  assertEquals(error.code, "database_unavailable");
  assert(ms < FIRST_BYTE_MS + MARGIN_MS, `${ms} ms`);
  slow.resolve();
  assertEquals(await new Response(passed.body).json(), { first: 1, last: 2 });
});
