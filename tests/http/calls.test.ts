// One request, one database call: the function runs in this process, against the real REST API behind a counter.
import { assertEquals } from "@std/assert";
import { app } from "../../supabase/functions/conversations/app.ts";
import { app as responses } from "../../supabase/functions/responses/app.ts";
import { apiUrl, publishableKey, secretKey, signUp } from "../support/stack.ts";

Deno.test("every route makes exactly one database call", async () => {
  const alice = await signUp();
  const calls: string[] = [];
  const counter = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const { pathname, search } = new URL(request.url);
    calls.push(pathname);
    const answer = await fetch(`${apiUrl}${pathname}${search}`, {
      method: request.method,
      headers: request.headers,
      body: await request.arrayBuffer(),
    });
    const bytes = await answer.arrayBuffer();
    return new Response(answer.status === 204 ? null : bytes, { status: answer.status, headers: answer.headers });
  });
  Deno.env.set("SUPABASE_URL", `http://127.0.0.1:${counter.addr.port}`);
  Deno.env.set("SUPABASE_PUBLISHABLE_KEYS", JSON.stringify({ default: publishableKey }));
  Deno.env.set("SUPABASE_SECRET_KEYS", JSON.stringify({ default: secretKey }));

  const send = async (method: string, path: string, body?: unknown) => {
    calls.length = 0;
    const [target, address] = path.startsWith("/responses") ? [responses, path] : [app, `/conversations${path}`];
    const response = await target.request(address, {
      method,
      headers: {
        apikey: secretKey,
        "x-user-id": alice.id,
        ...(body !== undefined && { "content-type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : null, calls: [...calls] };
  };
  try {
    const about = { model: "m", provider: "p" };
    const messages = Array.from({ length: 30 }, (_, i) => ({ role: "user", content: `m${i}` }));
    const created = await send("POST", "", { messages });
    assertEquals([created.status, created.calls], [201, ["/rest/v1/rpc/create_conversation"]]);
    const { id } = created.body;
    for (
      const [method, path, body, rpc] of [
        ["GET", "", undefined, "list_conversations"],
        ["GET", "/search?q=m1", undefined, "search_messages"],
        ["GET", `/${id}`, undefined, "get_conversation"],
        ["PATCH", `/${id}`, { title: "x" }, "update_conversation"],
        ["POST", `/${id}/messages`, { messages }, "append_messages"],
        ["GET", `/${id}/messages?limit=20`, undefined, "list_messages"],
        ["DELETE", `/${id}`, undefined, "delete_conversation"],
        [
          "PUT",
          "/responses/r1",
          { input: "x", output: [{ role: "assistant", content: "y" }], ...about },
          "put_response",
        ],
        ["PUT", "/responses/r2", { previous_response_id: "r1", input: "z", output: [], ...about }, "put_response"],
        ["GET", "/responses/r2", undefined, "get_response"],
        ["HEAD", "/responses/r2", undefined, "get_response"],
        ["POST", "/responses/r2/merge", { input: "w" }, "merge_response"],
        ["DELETE", "/responses/r2", undefined, "delete_response"],
      ] as const
    ) {
      const answer = await send(method, path, body);
      assertEquals([answer.status < 300, answer.calls], [true, [`/rest/v1/rpc/${rpc}`]], `${method} ${path}`);
    }
  } finally {
    await counter.shutdown();
  }
});
