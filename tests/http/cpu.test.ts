// What a request costs the function in CPU, at its worst. An isolate has one second for all its requests together, so no request
// uses more than 200 ms of it, and no piece of an export, an import or an event stream more than 500 ms.
//
// With CPU_TABLE=1 it prints what it measured.
import { assert, assertEquals } from "@std/assert";
import { FORMATS } from "../../supabase/functions/_shared/formats/formats.ts";
import { functions } from "../support/apps.ts";
import { connect, secretKey, signUp, uuid } from "../support/stack.ts";
import { canMeasure, type MeasuredWorker, startMeasured } from "../support/workers.ts";

const REQUEST_MS = 200;
const PIECE_MS = 500;
/** What the machine does beside it costs cache, and that costs CPU: the cheapest of so many times counts. */
const ATTEMPTS = 5;
const SETTLE_MS = 50;

const ignore = !canMeasure;
if (ignore) console.warn("CPU is measured on Linux alone: the CPU budget of requests is NOT tested.");

const MAX_BODY = 4 * 1024 * 1024 - 1000;
const many = (count: number, element: (i: number) => string) =>
  Array.from({ length: count }, (_, i) => element(i)).join();
const ascii = (bytes: number) => `"${"x".repeat(bytes - 2)}"`;
const names = (count: number) => many(count, (i) => `{"${i.toString(36)}":0}`);
/** As many names as a body may have, many values, and text to the brim. All values that it may have, the database takes seconds for. */
const brim = (first: string) => {
  const values = `${first},${names(19_900)},${many(20_000, () => "{}")}`;
  return `[${values},${ascii(MAX_BODY - values.length - 300)}]`;
};
/** JSON of four megabytes: what is taken, and costs the most of that, and what is refused, and costs the most of that. */
const SHAPES: Record<string, string> = {
  "all that may be": brim("0"),
  "all that may be, and to be looked at": brim(`1e3,"${"\\ud83e".repeat(39_000)}"`),
  "nothing that Postgres can store": `"${"\\u0000\ufdd0".repeat(MAX_BODY / 9 - 50)}"`,
  "escapes": `"${"\\n".repeat(MAX_BODY / 2 - 150)}"`,
  "a million objects": `[${many(1_300_000, () => "{}")}]`,
  "half a million names": `[${names(370_000)}]`,
  "two million levels": `${"[".repeat(2_000_000)}${"]".repeat(2_000_000)}`,
};

interface Case {
  /** Below the function, path parameters filled in. */
  path: string | (() => Promise<string>);
  /** JSON or what it is in, around a shape. */
  bodies?: ((shape: string) => string)[];
  /** More of the same route, without a body: what is added to the path. */
  queries?: string[];
  headers?: Record<string, string>;
  /** Requests of 500 ms, and what they send. */
  pieces?: Record<string, string | undefined>;
}

const user = await signUp();
const sql = connect();
globalThis.addEventListener("unload", () => sql.end());

/** A row of a megabyte, with much in it that stands for what Postgres cannot store. A page has eight of them. */
const hostile = `[${names(20_000)},${ascii(350_000)},"${"\ufdd0d83e".repeat(50_000)}"]`;
const conversation = uuid();
const session = uuid();
const collection = `cpu_${uuid()}`;
const response = `resp_${uuid()}`;
const NDJSON = { "content-type": "application/x-ndjson" };

async function furnish(): Promise<void> {
  const metadata = `{"a":[${names(500)},${ascii(50_000)}]}`;
  await sql.begin(async (tx) => {
    await tx`
      insert into conversations (id, user_id, title, last_sequence_order) values (${conversation}, ${user.id}, 'cpu', 8)`;
    await tx`
      insert into conversation_messages (conversation_id, user_id, sequence_order, role, parts, item_id, token_count)
      select ${conversation}, ${user.id}, n, case n % 2 when 1 then 'user' else 'assistant' end, ${hostile}::text::jsonb, 'item_' || n, 1
      from generate_series(1, 8) n`;
    await tx`
      insert into conversations (user_id, title, metadata)
      select ${user.id}, 'cpu', ${metadata}::text::jsonb from generate_series(1, 200)`;
    await tx`
      insert into sessions (id, user_id, start_time, end_time, last_sequence, last_event_at)
      values (${session}, ${user.id}, now() - interval '1 minute', now(), 8, now() + interval '1 minute')`;
    await tx`
      insert into event_logs (session_id, user_id, sequence, event_type, content)
      select ${session}, ${user.id}, n, 'ai_message', ${hostile}::text::jsonb from generate_series(1, 8) n`;
    await tx`
      insert into sessions (user_id, start_time, metadata)
      select ${user.id}, now(), ${metadata}::text::jsonb from generate_series(1, 200)`;
  });
}

const send = (worker: MeasuredWorker, method: string, path: string, body?: string, headers = {}) =>
  fetch(`${worker.origin}${path}`, {
    method,
    body,
    headers: {
      apikey: secretKey,
      "x-user-id": user.id,
      ...(body !== undefined && { "content-type": "application/json" }),
      ...headers,
    },
  });

async function create(worker: MeasuredWorker, path: string, body: unknown): Promise<string> {
  const answer = await send(worker, "POST", path, JSON.stringify(body));
  const created = await answer.json();
  assert(answer.ok, JSON.stringify(created));
  return created.id;
}

const item = (shape: string) => `{"type":"message","role":"user","content":[{"type":"input_text","a":${shape}}]}`;
const inDocument = (shape: string) => `{"document":{"a":${shape}}}`;
const filters = (shape: string) => `{"filters":{"a":${shape}}}`;
const unknown = (shape: string) => `{"x":${shape}}`;
const inConversation = async (worker: MeasuredWorker, rest: string) =>
  `/conversations/${await create(worker, "/conversations", { messages: [{ role: "user", content: "x" }] })}${rest}`;
const messageLine = (content: string) => `{"type":"message","role":"user","content":"${content}"}\n`;
const line = '{"type":"conversation"}\n';
const lines = (count: number, text: string) => line + text.repeat(count);

const CASES: Record<string, (worker: MeasuredWorker) => Record<string, Case>> = {
  conversations: (worker) => ({
    "POST /conversations": {
      path: "/conversations",
      bodies: [
        (shape) => `{"messages":[{"role":"user","parts":[${shape}]}]}`,
        (shape) => `{"metadata":{"a":${shape}}}`,
        () => `{"messages":[${many(99_000, () => "{}")}]}`,
        () => `{"messages":[${many(1000, (i) => `{"role":"user","name":"${i}","content":${ascii(3900)}}`)}]}`,
        () => `{"messages":[${many(1000, () => `{"role":"user","content":"x",${many(80, (i) => `"x${i}":0`)}}`)}]}`,
      ],
    },
    "GET /conversations": { path: "/conversations?limit=1000" },
    "DELETE /conversations": { path: "/conversations?confirm=nothing" },
    "GET /conversations/erasures/:id": { path: `/conversations/erasures/${uuid()}` },
    "GET /conversations/search": { path: "/conversations/search?q=cpu&limit=1000" },
    "GET /conversations/export": { path: "/conversations/export", pieces: { "8 MiB": undefined } },
    "POST /conversations/import": {
      path: "/conversations/import",
      headers: NDJSON,
      pieces: {
        "5,000 messages": lines(4999, messageLine("x")),
        "5,000 messages that are wrong": lines(4999, '{"type":"message","role":"x","content":1,"status":2,"a":1}\n'),
        "100 conversations": (line + messageLine("x").repeat(40)).repeat(100),
        "one large message": line + messageLine("x".repeat(MAX_BODY - 200)),
        "four million blank lines": "\n".repeat(MAX_BODY),
        "200,000 values": line + `{"type":"message","role":"user","parts":[${many(99_000, () => "{}")}]}\n`.repeat(2),
        "names": line +
          many(4, (i) => `{"type":"message","role":"user","parts":[${many(19_900, (k) => `{"${i}_${k}":0}`)}]}\n`)
            .replaceAll("\n,", "\n"),
      },
    },
    "GET /conversations/:id": { path: () => inConversation(worker, "") },
    "PATCH /conversations/:id": {
      path: () => inConversation(worker, ""),
      bodies: [(shape) => `{"metadata":{"a":${shape}}}`, () => `{"summary":${ascii(MAX_BODY)}}`],
    },
    "DELETE /conversations/:id": { path: () => inConversation(worker, "") },
    "POST /conversations/:id/messages": {
      path: () => inConversation(worker, "/messages"),
      bodies: [
        (shape) => `{"messages":[{"role":"user","parts":[${shape}]}]}`,
        // In other shapes: one, and as many as may be, each tried as every shape.
        (shape) => `{"messages":[{"role":"model","parts":[{"functionCall":{"args":${shape}}}]}]}`,
        () =>
          `{"messages":[${
            many(1000, () => `{"role":"user","content":[${many(40, () => '{"type":"text","text":"x"}')}]}`)
          }]}`,
      ],
    },
    "GET /conversations/:id/messages": {
      path: `/conversations/${conversation}/messages?order=asc`,
      // A page of 8 MiB; in other formats the same, which is more than may be converted, and the most that may.
      queries: ["&format=chat", ...FORMATS.map((format) => `&format=${format}&limit=1`)],
    },
    "DELETE /conversations/:id/messages/:message_id": { path: `/conversations/${conversation}/messages/${uuid()}` },
    "GET /conversations/:id/context": {
      path: `/conversations/${conversation}/context?max_tokens=1000000`,
      queries: ["&format=chat", "&format=ai-sdk"],
    },
    "POST /conversations/:id/fork": {
      path: () => inConversation(worker, "/fork"),
      bodies: [(shape) => `{"at":1,"x":${shape}}`, () => '{"at":1}'],
    },
  }),
  sessions: (worker) => ({
    "POST /sessions": { path: "/sessions", bodies: [(shape) => `{"metadata":{"a":${shape}}}`, () => "{}"] },
    "GET /sessions": { path: "/sessions?limit=1000" },
    "GET /sessions/audit": { path: "/sessions/audit?limit=1000" },
    "GET /sessions/analytics": { path: "/sessions/analytics?bucket=hour" },
    "GET /sessions/context": { path: "/sessions/context?max_tokens=1000000" },
    "GET /sessions/unsummarized": { path: "/sessions/unsummarized?limit=1000&lease_seconds=1" },
    "GET /sessions/:id": { path: `/sessions/${session}` },
    "POST /sessions/:id/end": {
      path: async () => `/sessions/${await create(worker, "/sessions", {})}/end`,
      bodies: [(shape) => `{"summary":"x","x":${shape}}`, () => `{"summary":${ascii(65_000)}}`],
    },
    "POST /sessions/:id/events": {
      path: async () => `/sessions/${await create(worker, "/sessions", {})}/events`,
      bodies: [
        (shape) => `{"events":[{"event_type":"ai_message","content":${shape}}]}`,
        () => `{"events":[${many(1000, () => `{"event_type":"ai_chunk","content":${ascii(4000)}}`)}]}`,
      ],
    },
    "GET /sessions/:id/events": { path: `/sessions/${session}/events?limit=1000` },
    "GET /sessions/:id/events/stream": { path: `/sessions/${session}/events/stream`, pieces: { "8 MiB": undefined } },
  }),
  responses: () => ({
    "PUT /responses/:id": {
      path: () => Promise.resolve(`/responses/resp_${uuid()}`),
      bodies: [(shape) => `{"input":"x","output":[{"a":${shape}}],"model":"m","provider":"p"}`],
    },
    "GET /responses/:id": { path: `/responses/${response}` },
    "DELETE /responses/:id": { path: `/responses/resp_${uuid()}` },
    "POST /responses/:id/merge": {
      path: `/responses/${response}/merge`,
      bodies: [(shape) => `{"input":[{"a":${shape}}]}`, () => `{"input":[${many(1000, () => "{}")}]}`],
    },
  }),
  documents: () => {
    const at = (route: string, ...bodies: Case["bodies"] & object) => ({
      path: `/documents/${collection}/${route}`,
      bodies,
    });
    return {
      "GET /documents": { path: "/documents?limit=1000" },
      "POST /documents/:collection/insert_one": at("insert_one", inDocument),
      "POST /documents/:collection/insert_many": at(
        "insert_many",
        (shape) => `{"documents":[{"a":${shape}}]}`,
        () => `{"documents":[${many(1000, () => `{"a":${ascii(4000)}}`)}]}`,
      ),
      "POST /documents/:collection/find": at("find", filters, () => "{}"),
      "POST /documents/:collection/find_one": at("find_one", filters, () => "{}"),
      "POST /documents/:collection/count": at("count", filters, () => '{"filters":{}}'),
      "POST /documents/:collection/update_one": at(
        "update_one",
        (shape) => `{"filters":{"id":"there"},"params":{"b":${shape}}}`,
      ),
      "POST /documents/:collection/delete_one": at("delete_one", filters),
      "POST /documents/:collection/delete_many": at("delete_many", filters),
      "POST /documents/:collection/drop": at("drop", unknown),
      "GET /documents/:collection/version": { path: `/documents/${collection}/version` },
      "PUT /documents/:collection/version": at("version", unknown),
      "GET /documents/:collection/failures": { path: `/documents/${collection}/failures` },
      "POST /documents/:collection/failures": at("failures", unknown),
      "POST /documents/:collection/failures/restore": at("failures/restore", unknown),
      "GET /documents/:collection/indexes": { path: `/documents/${collection}/indexes` },
      "POST /documents/:collection/indexes": at("indexes", unknown),
      "DELETE /documents/:collection/indexes": { path: `/documents/${collection}/indexes?field=none` },
    };
  },
  openai: (worker) => {
    const at = `/openai/v1/conversations/conv_${conversation.replaceAll("-", "")}`;
    const fresh = async (rest: string) =>
      `/openai/v1/conversations/${await create(worker, "/openai/v1/conversations", {})}${rest}`;
    return {
      "POST /openai/v1/conversations": {
        path: "/openai/v1/conversations",
        bodies: [(shape) => `{"items":[${item(shape)}]}`, unknown, () => `{"items":[${many(99_000, () => "{}")}]}`],
      },
      "GET /openai/v1/conversations/:conversation_id": { path: at },
      "POST /openai/v1/conversations/:conversation_id": {
        path: () => fresh(""),
        bodies: [(shape) => `{"metadata":{"a":${shape}}}`, () => `{"metadata":{${many(19_900, (i) => `"${i}":0`)}}}`],
      },
      "DELETE /openai/v1/conversations/:conversation_id": { path: () => fresh("") },
      "POST /openai/v1/conversations/:conversation_id/items": {
        path: () => fresh("/items"),
        bodies: [(shape) => `{"items":[${item(shape)}]}`],
      },
      "GET /openai/v1/conversations/:conversation_id/items": { path: `${at}/items?limit=100` },
      "GET /openai/v1/conversations/:conversation_id/items/:item_id": { path: `${at}/items/item_1` },
      "DELETE /openai/v1/conversations/:conversation_id/items/:item_id": { path: `${at}/items/none` },
      "GET /openai/v1/responses/:response_id": { path: `/openai/v1/responses/${response}` },
      "DELETE /openai/v1/responses/:response_id": { path: "/openai/v1/responses/none" },
      "GET /openai/v1/responses/:response_id/input_items": {
        path: `/openai/v1/responses/${response}/input_items?limit=100`,
      },
    };
  },
  users: () => ({
    "GET /users/me/export": { path: "/users/me/export", pieces: { "8 MiB": undefined } },
    "GET /users/me/quotas": { path: "/users/me/quotas" },
    "DELETE /users/me": { path: "/users/me?confirm=nothing" },
    "GET /users/erasures/:id": { path: `/users/erasures/${uuid()}` },
  }),
  retention: () => ({
    "GET /retention/policies": { path: "/retention/policies" },
    "GET /retention/runs": { path: "/retention/runs?limit=1000" },
    "GET /retention/preview": { path: "/retention/preview" },
  }),
};

/** Sends it as often as it takes to be cheap, and answers the cheapest. */
async function costOf(
  worker: MeasuredWorker,
  limit: number,
  request: () => Promise<Response>,
): Promise<[number, Response]> {
  let [cheapest, unanswered] = [Infinity, Infinity];
  for (let attempt = 1;; attempt++) {
    const before = await worker.cpuMs();
    const answer = await request();
    await answer.bytes();
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS)); // a collection of garbage that is on its way
    const cost = await worker.cpuMs() - before;
    if (answer.status < 500) cheapest = Math.min(cheapest, cost);
    else unanswered = Math.min(unanswered, cost);
    // On a busy machine the database has no time for some of them, ever. What it was sent has been paid for by then.
    if (attempt === ATTEMPTS && cheapest === Infinity) return [unanswered, answer];
    if (cheapest <= limit || attempt === ATTEMPTS) return [cheapest, answer];
  }
}

const furnished = ignore ? undefined : furnish();

for (const { name, routes, operations } of functions) {
  Deno.test(
    `${name}: no request uses more than ${REQUEST_MS} ms of CPU, no piece more than ${PIECE_MS} ms`,
    { ignore },
    async () => {
      await furnished;
      await using worker = await startMeasured(name);
      const cases = CASES[name](worker);
      const expected = routes.filter((route) => !operations[route.name].public).map((route) => route.name);
      assertEquals(Object.keys(cases).toSorted(), expected.toSorted(), "every route has its worst case");
      if (name === "responses" || name === "openai") {
        // A history of eight megabytes, made where every function that reads it can.
        await using responses = name === "responses" ? undefined : await startMeasured("responses");
        for (const [id, previous_response_id] of [[`${response}_0`, null], [response, `${response}_0`]]) {
          const output = `[{"type":"message","role":"assistant","content":${ascii(MAX_BODY - 300)}}]`;
          const more = JSON.stringify({ input: "x", model: "m", provider: "p", previous_response_id }).slice(1);
          const stored = await send(responses ?? worker, "PUT", `/responses/${id}`, `{"output":${output},${more}`);
          await stored.body?.cancel();
          assert(stored.ok, `${stored.status}`);
        }
      }
      if (name === "documents") {
        const documents = [{ id: "there", a: 1 }];
        await (await send(worker, "POST", `/documents/${collection}/insert_many`, JSON.stringify({ documents }))).body
          ?.cancel();
      }
      // What a worker has served before is compiled.
      for (let i = 0; i < 3; i++) {
        for (const [route, { path, bodies = [() => ""], headers }] of Object.entries(cases)) {
          const method = route.split(" ")[0];
          const body = method === "GET" || method === "DELETE" ? undefined : bodies[0]("[1]");
          await (await send(worker, method, typeof path === "string" ? path : await path(), body, headers)).bytes();
        }
      }

      const expensive: string[] = [];
      const measure = async (route: string, what: string, limit: number, request: () => Promise<Response>) => {
        const [ms, { status, headers }] = await costOf(worker, limit, request);
        const line = `${ms.toFixed(0).padStart(5)} ms  ${status}  ${route}  ${what}`;
        if (Deno.env.has("CPU_TABLE")) console.log(line, headers.get("content-length") ?? "");
        if (ms > limit) expensive.push(line);
      };
      for (const [route, { path, bodies, queries = [], headers, pieces }] of Object.entries(cases)) {
        const method = route.split(" ")[0];
        const target = async () => typeof path === "string" ? path : await path();
        const call = async (body?: string) => {
          const at = await target(); // made before it is measured
          return () => send(worker, method, at, body, headers);
        };
        if (pieces) {
          for (const [what, body] of Object.entries(pieces)) await measure(route, what, PIECE_MS, await call(body));
        } else if (!bodies) {
          await measure(route, "", REQUEST_MS, await call());
          for (const query of queries) {
            await measure(route, query, REQUEST_MS, () => send(worker, method, `${path}${query}`, undefined, headers));
          }
        } else {
          for (const build of bodies) {
            const shapes = build.length === 0 ? { "": "" } : SHAPES;
            for (const [what, shape] of Object.entries(shapes)) {
              await measure(route, what, REQUEST_MS, await call(build(shape)));
            }
          }
        }
      }
      assertEquals(expensive, []);
    },
  );
}
