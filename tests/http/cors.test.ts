// What browsers need: that they may send what a page sends, and hand it every answer, errors above all.
import { assert, assertEquals } from "@std/assert";
import { startGateway } from "../../local/gateway.ts";
import { functions } from "../support/apps.ts";
import {
  type Answer,
  apiUrl,
  backend,
  newConversation,
  publishableKey,
  request,
  signUp,
  uuid,
} from "../support/stack.ts";

const alice = await signUp();
const conversation = await newConversation(alice);

/** The headers of supabase-js, of the API, and those that tracing tools add. */
const SENT = [
  ...["authorization", "apikey", "content-type", "x-client-info", "x-supabase-api-version", "sb-api-key"],
  ...["idempotency-key", "x-user-id", "last-event-id"],
  ...["sentry-trace", "baggage", "traceparent", "tracestate", "cache-control"],
].toSorted(); // as browsers ask for them
const EXPOSED =
  "idempotent-replayed,x-request-id,allow,location,retry-after,x-should-retry,x-consistency-token,x-vercel-ai-ui-message-stream";

const preflight = (method: string): RequestInit => ({
  method: "OPTIONS",
  headers: {
    origin: "https://app.example.com",
    "access-control-request-method": method,
    "access-control-request-headers": SENT.join(","),
  },
});

function assertAllowed({ status, headers }: Response, method: string, name: string): void {
  const list = (header: string) => headers.get(header)?.toLowerCase().split(",").map((value) => value.trim()) ?? [];
  assertEquals([status, headers.get("access-control-allow-origin")], [204, "*"], name);
  assertEquals(list("access-control-allow-headers"), SENT, name);
  assert(list("access-control-allow-methods").includes(method.toLowerCase()), `${method} ${name}`);
}

/** By the function itself: the local gateway exposes nothing of functions. */
function assertReadable({ status, headers }: Answer, expected: number, name: string): void {
  assertEquals(status, expected, name);
  assertEquals(headers.get("access-control-allow-origin"), "*", name);
  assertEquals(headers.get("access-control-expose-headers"), EXPOSED, name);
}

Deno.test("every route answers a preflight itself, without credentials, for any header", async () => {
  for (const { app, routes } of functions) {
    for (const { method, path, name } of routes) {
      const target = path.replaceAll(/:\w+/g, uuid());
      assertAllowed(await app.request(target, preflight(method)), method, name);
    }
  }
});

Deno.test("a page may read what every route answers, with and without a token", async () => {
  for (const { method, path, name } of functions.flatMap(({ routes }) => routes)) {
    const target = path.replaceAll(/:\w+/g, uuid());
    const isPublic = /\/(health|openapi\.json)$/.test(path);
    assertReadable(await request(method, target), isPublic ? 200 : 401, name);
    assertReadable(await backend(alice.id)(method, `${target}?dry_run=true`), 400, name);
  }
});

Deno.test("a page may read every kind of answer", async () => {
  const path = `/conversations/${conversation}`;
  const messages = [{ role: "user", content: "x" }];
  const { body: session } = await alice.request("POST", "/sessions", { body: {} });
  await alice.request("POST", `/sessions/${session.id}/end`, { body: {} });
  const cases: [status: number, method: string, path: string, body?: unknown, contentType?: string][] = [
    [201, "POST", `${path}/messages`, { messages }],
    [200, "HEAD", `${path}/messages`],
    [200, "GET", `${path}/messages`],
    [204, "DELETE", `/conversations/${await newConversation(alice)}`],
    [200, "GET", `/sessions/${session.id}/events/stream`],
    [200, "GET", "/users/me/export"],
    [400, "POST", `${path}/messages`, "{"],
    [403, "GET", "/sessions/unsummarized"],
    [404, "GET", `/conversations/${uuid()}`],
    [404, "GET", `${path}/nothing`],
    [405, "PUT", path, {}],
    [409, "POST", `${path}/messages`, { messages, expected_sequence: 0 }],
    [413, "POST", `${path}/messages`, { messages: [{ role: "user", content: "x".repeat(5 * 1024 * 1024) }] }],
    [415, "POST", `${path}/messages`, "x", "text/plain"],
  ];
  for (const [status, method, target, body, contentType] of cases) {
    const headers: Record<string, string> = contentType ? { "content-type": contentType } : {};
    assertReadable(await alice.request(method, target, { body, headers }), status, `${method} ${target}`);
  }
});

Deno.test("a client that reads only once it has sent, as browsers do, gets its 413 and is not cut off", async () => {
  const { hostname, port } = new URL(apiUrl);
  const body = new Uint8Array(16 * 1024 * 1024);
  const head = [
    "POST /functions/v1/conversations HTTP/1.1",
    `host: ${hostname}`,
    "content-type: application/json",
    `authorization: Bearer ${alice.token}`,
    `content-length: ${body.length}`,
  ];
  for (let i = 0; i < 5; i++) {
    using connection = await Deno.connect({ hostname, port: Number(port) });
    const stuck = setTimeout(() => connection.close(), 60_000);
    await connection.write(new TextEncoder().encode(`${head.join("\r\n")}\r\n\r\n`));
    for (let sent = 0; sent < body.length;) sent += await connection.write(body.subarray(sent, sent + 65_536));
    const answer = new Uint8Array(4096);
    const text = new TextDecoder().decode(answer.subarray(0, (await connection.read(answer))!));
    clearTimeout(stuck);
    assertEquals(text.split("\r\n")[0], "HTTP/1.1 413 Payload Too Large");
    assert(/^access-control-allow-origin: \*$/im.test(text), text);
  }
});

Deno.test("pages of any origin may use Auth and REST, and read their errors", async () => {
  for (
    const path of ["/auth/v1/token?grant_type=password", "/auth/v1/user", "/rest/v1/conversations", "/rest/v1/rpc/x"]
  ) {
    const url = apiUrl + path;
    const { ok, headers } = await fetch(url, preflight("POST"));
    assertEquals([ok, headers.get("access-control-allow-origin")], [true, "*"], path);
    const allowed = headers.get("access-control-allow-headers")!.toLowerCase().split(",").map((name) => name.trim());
    assertEquals(SENT.filter((name) => !allowed.includes(name)), [], path);
    assert(headers.get("access-control-allow-methods")!.includes("POST"), path);

    const answer = await fetch(url, { method: "POST", headers: { apikey: publishableKey }, body: "{" });
    await answer.body?.cancel();
    assertEquals([answer.ok, answer.headers.get("access-control-allow-origin")], [false, "*"], path);
  }
  const listed = await fetch(`${apiUrl}/rest/v1/conversations`, {
    headers: { apikey: publishableKey, authorization: `Bearer ${alice.token}`, origin: "https://app.example.com" },
  });
  await listed.body?.cancel();
  assert(listed.headers.get("access-control-expose-headers")!.includes("Content-Range"));
});

Deno.test("a page reads that the local stack has not started, or is stopping", async () => {
  const services = Promise.withResolvers<never>();
  services.promise.catch(() => {});
  await using gateway = startGateway("127.0.0.1", 0, "secret", services.promise);
  services.reject(new Error("stopped"));
  for (const path of ["/functions/v1/conversations", "/rest/v1/conversations", "/auth/v1/user"]) {
    const url = `http://127.0.0.1:${gateway.port}${path}`;
    assertAllowed(await fetch(url, preflight("POST")), "POST", path);
    const answer = await fetch(url, { method: "POST", body: "{}" });
    assertEquals([answer.status, (await answer.json()).code], [503, "SERVICE_UNAVAILABLE"], path);
    assertEquals(answer.headers.get("access-control-allow-origin"), "*", path);
  }
});
