import { assertEquals, assertMatch } from "@std/assert";
import { functions } from "../support/apps.ts";
import { backend, newConversation, publishableKey, request, signUp, uuid } from "../support/stack.ts";

const alice = await signUp();
const conversation = await newConversation(alice);
const path = `/conversations/${conversation}`;
const user = { role: "user", content: "x" };

/** Every case: a request, and the status, code and failing path (or none) that it answers. */
const cases: [
  name: string,
  method: string,
  path: string,
  body: unknown,
  status: number,
  code: string,
  failingPath?: string,
  contentType?: string,
][] = [
  ["malformed JSON", "POST", `${path}/messages`, '{"messages": [', 400, "invalid_json"],
  ["bytes that are not UTF-8", "POST", `${path}/messages`, new Uint8Array([0x22, 0xff, 0x22]), 400, "invalid_json"],
  ["an empty body with a content type", "POST", "/conversations", "", 400, "invalid_json"],
  [
    "another content type",
    "POST",
    `${path}/messages`,
    "messages=1",
    415,
    "unsupported_media_type",
    undefined,
    "text/plain",
  ],
  ["an array for a body", "POST", "/conversations", [], 400, "invalid_request", ""],
  ["a name twice", "POST", "/conversations", '{"title":"a","title":"b"}', 400, "invalid_request", "title"],
  [
    "a name twice, written in two ways",
    "POST",
    `${path}/messages`,
    '{"messages":[{"role":"user","content":"x","metadata":{"a":{"n":1,"\\u006e":2}}}]}',
    400,
    "invalid_request",
    "messages[0].metadata.a.n",
  ],
  ["an unknown field", "POST", "/conversations", { titel: "x" }, 400, "invalid_request", "titel"],
  [
    "an unknown field of a message",
    "POST",
    `${path}/messages`,
    { messages: [user, { ...user, contents: 1 }] },
    400,
    "invalid_request",
    "messages[1].contents",
  ],
  [
    "a field of the database",
    "POST",
    `${path}/messages`,
    { messages: [{ ...user, author: "service" }] },
    400,
    "invalid_request",
    "messages[0].author",
  ],
  [
    "a wrong type",
    "POST",
    `${path}/messages`,
    { messages: [{ role: "user", content: 5 }] },
    400,
    "invalid_request",
    "messages[0].content",
  ],
  [
    "an unknown role",
    "POST",
    `${path}/messages`,
    { messages: [{ role: "narrator", content: "x" }] },
    400,
    "invalid_request",
    "messages[0].role",
  ],
  [
    "a message without a role",
    "POST",
    `${path}/messages`,
    { messages: [{ content: "x" }] },
    400,
    "invalid_request",
    "messages[0].role",
  ],
  [
    "a message that says nothing",
    "POST",
    `${path}/messages`,
    { messages: [{ role: "user", content: null }] },
    400,
    "invalid_request",
    "messages[0].content",
  ],
  ["no messages", "POST", `${path}/messages`, { messages: [] }, 400, "invalid_request", "messages"],
  ["messages missing", "POST", `${path}/messages`, {}, 400, "invalid_request", "messages"],
  [
    "NUL",
    "POST",
    `${path}/messages`,
    '{"messages":[{"role":"user","content":"a","item_id":"a\\u0000b"}]}',
    400,
    "invalid_request",
    "messages[0].item_id",
  ],
  ["NUL in a key", "PATCH", path, '{"metadata":{"a\\u0000":1}}', 400, "invalid_request", "metadata.a\0"],
  [
    "a lone surrogate",
    "POST",
    `${path}/messages`,
    '{"messages":[{"role":"user","content":"a","name":"\\ud83d"}]}',
    400,
    "invalid_request",
    "messages[0].name",
  ],
  ["a number JSON cannot keep", "PATCH", path, '{"metadata":{"n":1e999}}', 400, "invalid_request", "metadata.n"],
  [
    "an integer beyond 2^53",
    "PATCH",
    path,
    '{"metadata":{"id":9007199254740993}}',
    400,
    "invalid_request",
    "metadata.id",
  ],
  ["a parameter given twice", "GET", `${path}/messages?limit=1&limit=2`, undefined, 400, "invalid_request", "limit"],
  [
    "JSON nested too deep",
    "PATCH",
    path,
    `{"metadata":{"a":${"[".repeat(5000)}${"]".repeat(5000)}}}`,
    400,
    "invalid_request",
  ],
  ["metadata over 64 KiB", "PATCH", path, { metadata: { a: "x".repeat(65_536) } }, 400, "invalid_request", "metadata"],
  ["a date that is none", "POST", "/conversations", { expires_at: "tomorrow" }, 400, "invalid_request", "expires_at"],
  [
    "a negative expected_sequence",
    "POST",
    `${path}/messages`,
    { messages: [user], expected_sequence: -1 },
    400,
    "invalid_request",
    "expected_sequence",
  ],
  [
    "a body over 4 MiB",
    "POST",
    `${path}/messages`,
    { messages: [{ role: "user", content: "x".repeat(5 * 1024 * 1024) }] },
    413,
    "payload_too_large",
  ],
  ["a bad uuid", "GET", "/conversations/42", undefined, 400, "invalid_request", "id"],
  ["a bad video id", "POST", "/conversations", { video_id: "42" }, 400, "invalid_request", "video_id"],
  ["a bad limit", "GET", "/conversations?limit=0", undefined, 400, "invalid_request", "limit"],
  ["a limit over 1,000", "GET", `${path}/messages?limit=1001`, undefined, 400, "invalid_request", "limit"],
  ["an empty number", "GET", `${path}/messages?after=`, undefined, 400, "invalid_request", "after"],
  ["a number too large", "GET", `${path}/messages?after=9999999999`, undefined, 400, "invalid_request", "after"],
  ["an unknown order", "GET", `${path}/messages?order=up`, undefined, 400, "invalid_request", "order"],
  [
    "a cursor of our own making",
    "GET",
    "/conversations?cursor=bm9uc2Vuc2U",
    undefined,
    400,
    "invalid_request",
    "cursor",
  ],
  ["an unknown parameter", "GET", "/conversations?page=2", undefined, 400, "invalid_request", "page"],
  [
    "a metadata filter that is not an object",
    "GET",
    "/conversations?metadata=1",
    undefined,
    400,
    "invalid_request",
    "metadata",
  ],
  ["erasure without a word", "DELETE", "/conversations", undefined, 400, "invalid_request", "confirm"],
  ["erasure of some", "DELETE", "/conversations?confirm=some", undefined, 400, "invalid_request", "confirm"],
  ["an unknown receipt", "GET", `/conversations/erasures/${uuid()}`, undefined, 404, "erasure_not_found"],
  ["a bad receipt", "GET", "/conversations/erasures/42", undefined, 400, "invalid_request", "id"],
  ["an unknown id", "GET", `/conversations/${uuid()}`, undefined, 404, "conversation_not_found"],
  [
    "an append to an unknown id",
    "POST",
    `/conversations/${uuid()}/messages`,
    { messages: [user] },
    404,
    "conversation_not_found",
  ],
  ["an unknown route", "GET", `${path}/nothing`, undefined, 404, "not_found"],
  ["an unknown function", "GET", "/nothing", undefined, 404, ""],
];

for (const [name, method, target, body, status, code, failingPath, contentType] of cases) {
  Deno.test(`${name}: ${status} ${code}`, async () => {
    const answer = await alice.request(method, target, {
      body,
      headers: contentType ? { "content-type": contentType } : {},
    });
    assertEquals(answer.status, status, JSON.stringify(answer.body));
    if (!code) return;
    assertEquals(answer.body.code, code);
    assertEquals(typeof answer.body.message, "string");
    assertEquals([answer.body.retryable, answer.headers.get("x-should-retry")], [false, "false"]);
    assertEquals(answer.body.request_id, answer.headers.get("x-request-id"));
    assertEquals(answer.headers.get("access-control-allow-origin"), "*", "a browser must be able to read the error");
    if (failingPath !== undefined) assertEquals(answer.body.details[0].path, failingPath);
  });
}

Deno.test("what was refused left nothing behind", async () => {
  // Runs after the cases above, on the conversation they all aimed at.
  const { body } = await alice.request("GET", `${path}/messages`);
  assertEquals(body.data, []);
  // The positive control: the same request without the mistake.
  const good = await alice.request("POST", `${path}/messages`, { body: { messages: [user] } });
  assertEquals(good.status, 201);
});

Deno.test("metadata does not grow over 64 KiB by merging either", async () => {
  const half = (key: string) => alice.request("PATCH", path, { body: { metadata: { [key]: "x".repeat(40_000) } } });
  assertEquals((await half("a")).status, 200);
  const grown = await half("b");
  assertEquals([grown.status, grown.body.code], [400, "invalid_request"]);
  assertEquals(Object.keys((await alice.request("GET", path)).body.metadata), ["a"]);
});

Deno.test("no route ignores a parameter that it does not know", async () => {
  for (const { method, path: route, name } of functions.flatMap((edge) => edge.routes)) {
    const target = route.replace(/:id\b/, conversation).replaceAll(/:\w+/g, uuid());
    const { status, body } = await backend(alice.id)(method, `${target}?dry_run=true`, {
      body: method === "POST" ? {} : undefined,
    });
    const paths = body.details?.map((detail: { path: string }) => detail.path) ?? [body.error.param];
    assertEquals([status, paths.includes("dry_run")], [400, true], name);
  }
  assertEquals((await alice.request("GET", `${path}?forceFunctionRegion=eu-west-1`)).status, 200, "supabase-js's own");
});

Deno.test("a hostile body gets a short answer", async () => {
  const unknown = Object.fromEntries(Array.from({ length: 700 }, (_, i) => [`field_${i}`, i]));
  const messages = Array.from({ length: 140 }, () => ({ role: "user", content: "x", ...unknown }));
  const { status, body } = await alice.request("POST", `${path}/messages`, { body: { messages } });
  assertEquals([status, body.details.length], [400, 20]);
  const parameters = Array.from({ length: 1000 }, (_, i) => `p${i}&p${i}`).join("&");
  const repeated = await alice.request("GET", `/conversations?${parameters}`);
  assertEquals([repeated.status, repeated.body.details.length], [400, 20]);
});

Deno.test("JSON that costs too much to parse is refused before it is parsed", async () => {
  const send = async (parts: string) => {
    const body = `{"messages":[{"role":"user","parts":${parts}}]}`;
    const answer = await alice.request("POST", `${path}/messages`, { body });
    return [answer.status, answer.body.code ?? "appended", answer.body.details?.[0].message];
  };
  const zeros = (count: number) => `[${Array(count).fill(0).join()}]`;
  const names = (count: number) => `[{${Array.from({ length: count }, (_, i) => `"name_${i}":0`).join()}}]`;
  const deep = (levels: number) => `${"[".repeat(levels)}${"]".repeat(levels)}`;
  assertEquals(await send(zeros(99_000)), [201, "appended", undefined]);
  assertEquals(await send(zeros(100_001)), [
    400,
    "invalid_request",
    "Has more than 100000 values: send it in several requests.",
  ]);
  assertEquals((await send(names(18_000)))[0], 201);
  assertEquals(await send(names(30_000)), [400, "invalid_request", "Has more than 20000 different names of fields."]);
  assertEquals((await send(deep(97)))[0], 201);
  assertEquals(await send(deep(1_000_000)), [400, "invalid_request", "Is nested deeper than 100 levels."]);
});

Deno.test("a wrong method is 405 and says which are right", async () => {
  for (
    const [method, target, allowed] of [
      ["PUT", "/conversations", ["DELETE", "GET", "HEAD", "POST"]],
      ["POST", path, ["DELETE", "GET", "HEAD", "PATCH"]],
      ["DELETE", `${path}/messages`, ["GET", "HEAD", "POST"]],
      ["DELETE", "/conversations/health", ["GET", "HEAD"]],
    ] as const
  ) {
    const { status, headers, body } = await alice.request(method, target);
    assertEquals([status, body.code], [405, "method_not_allowed"], `${method} ${target}`);
    assertEquals(headers.get("allow")!.split(", ").toSorted(), allowed);
  }
});

Deno.test("the caller's request id is kept, a malicious one is not", async () => {
  const kept = await alice.request("GET", path, { headers: { "x-request-id": "trace-42" } });
  assertEquals(kept.headers.get("x-request-id"), "trace-42");
  const replaced = await alice.request("GET", path, { headers: { "x-request-id": "a b<script>" } });
  assertMatch(replaced.headers.get("x-request-id")!, /^[\w-]{36}$/);
});

Deno.test("health is public and says that the database answers", async () => {
  const { status, body } = await request("GET", "/conversations/health");
  assertEquals([status, body], [200, { status: "ok", database: "ok" }]);
});

Deno.test("the publishable key alone, or nothing at all, is 401", async () => {
  for (const headers of [{ apikey: publishableKey }, {}, { apikey: "sb_secret_wrong" }] as Record<string, string>[]) {
    const { status, body } = await request("GET", "/conversations", { headers });
    assertEquals([status, body.code], [401, "unauthorized"]);
  }
  assertEquals((await backend(alice.id)("GET", "/conversations")).status, 200);
});
