// One request, one database call: the function runs in this process, against the real REST API behind a counter.
import { assertEquals } from "@std/assert";
import { functions } from "../support/apps.ts";
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
    const { app } = functions.find(({ name }) => path.startsWith(`/${name}`))!;
    const response = await app.request(path, {
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
    const messages = Array.from({ length: 30 }, (_, i) => ({ role: "user", content: `m${i}` }));
    const created = await send("POST", "/conversations", { messages });
    assertEquals([created.status, created.calls], [201, ["/rest/v1/rpc/create_conversation"]]);
    const { id } = created.body;
    const conversation = `/openai/v1/conversations/conv_${id.replaceAll("-", "")}`;
    const item = { id: "msg_1", role: "user", content: "x" };
    const response = { input: "x", output: [{ role: "assistant", content: "y" }], model: "m", provider: "p" };
    for (
      const [method, path, body, rpc] of [
        ["GET", "/conversations", undefined, "list_conversations"],
        ["GET", "/conversations/search?q=m1", undefined, "search_messages"],
        ["GET", `/conversations/${id}`, undefined, "get_conversation"],
        ["PATCH", `/conversations/${id}`, { title: "x" }, "update_conversation"],
        ["POST", `/conversations/${id}/messages`, { messages }, "append_messages"],
        ["GET", `/conversations/${id}/messages?limit=20`, undefined, "list_messages"],
        ["POST", "/openai/v1/conversations", { items: [item] }, "create_conversation_of_items"],
        ["GET", conversation, undefined, "get_conversation"],
        ["POST", conversation, { metadata: {} }, "replace_metadata"],
        ["POST", `${conversation}/items`, { items: [item] }, "append_items"],
        ["GET", `${conversation}/items`, undefined, "list_items"],
        ["GET", `${conversation}/items/msg_1`, undefined, "get_item"],
        ["DELETE", `${conversation}/items/msg_1`, undefined, "delete_item"],
        ["DELETE", conversation, undefined, "delete_conversation"],
        ["PUT", "/responses/r1", response, "put_response"],
        ["PUT", "/responses/r2", { ...response, previous_response_id: "r1" }, "put_response"],
        ["GET", "/responses/r2", undefined, "get_response"],
        ["HEAD", "/responses/r2", undefined, "get_response"],
        ["POST", "/responses/r2/merge", { input: "w" }, "merge_response"],
        ["DELETE", "/responses/r2", undefined, "delete_response"],
        ["GET", "/openai/v1/responses/r1", undefined, "get_openai_response"],
        ["GET", "/openai/v1/responses/r1/input_items", undefined, "list_input_items"],
        ["DELETE", "/openai/v1/responses/r1", undefined, "delete_response"],
      ] as const
    ) {
      const answer = await send(method, path, body);
      assertEquals([answer.status < 300, answer.calls], [true, [`/rest/v1/rpc/${rpc}`]], `${method} ${path}`);
    }
  } finally {
    await counter.shutdown();
  }
});
