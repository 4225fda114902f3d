// One request, one database call: the functions run in this process, against the real REST API behind a counter.
import { assertEquals } from "@std/assert";
import { functions } from "../support/apps.ts";
import { countCalls } from "../support/calls.ts";
import { secretKey, signUp } from "../support/stack.ts";

const messages = Array.from({ length: 30 }, (_, i) => ({ role: "user", content: `m${i}` }));
const events = messages.map(({ content }) => ({ event_type: "user_message", content }));
const about = { model: "m", provider: "p" };

/** For each function its requests in order, `:id` being that of the first one's answer, and the call each may make. */
const REQUESTS: Record<string, [method: string, path: string, body: unknown, rpc: string][]> = {
  conversations: [
    ["POST", "", { messages }, "create_conversation"],
    ["GET", "", undefined, "list_conversations"],
    ["GET", "/search?q=m1", undefined, "search_messages"],
    ["GET", "/:id", undefined, "get_conversation"],
    ["PATCH", "/:id", { title: "x" }, "update_conversation"],
    ["POST", "/:id/messages", { messages }, "append_messages"],
    ["GET", "/:id/messages?limit=20", undefined, "list_messages"],
    ["GET", "/:id/context", undefined, "get_context"],
    ["POST", "/:id/fork", { at: 1 }, "fork_conversation"],
    ["DELETE", "/:id", undefined, "delete_conversation"],
  ],
  sessions: [
    ["POST", "", {}, "open_session"],
    ["GET", "", undefined, "list_sessions"],
    ["GET", "/:id", undefined, "get_session"],
    ["POST", "/:id/events", { events }, "append_events"],
    ["GET", "/:id/events?limit=20", undefined, "list_events"],
    ["POST", "/:id/end", { summary: "x" }, "end_session"],
    ["GET", "/:id/events/stream", undefined, "list_events"],
    ["GET", "/audit?q=m1&fold=true", undefined, "audit_events"],
    ["GET", "/context", undefined, "get_session_context"],
    ["GET", "/unsummarized?limit=1&lease_seconds=1", undefined, "take_unsummarized"],
    ["GET", "/analytics", undefined, "session_analytics"],
  ],
  responses: [
    ["PUT", "/r1", { input: "x", output: [{ role: "assistant", content: "y" }], ...about }, "put_response"],
    ["PUT", "/r2", { previous_response_id: "r1", input: "z", output: [], ...about }, "put_response"],
    ["GET", "/r2", undefined, "get_response"],
    ["HEAD", "/r2", undefined, "get_response"],
    ["POST", "/r2/merge", { input: "w" }, "merge_response"],
    ["DELETE", "/r2", undefined, "delete_response"],
  ],
};

for (const { name, app } of functions) {
  Deno.test(`${name}: every request makes exactly one database call`, async () => {
    const alice = await signUp();
    await using counter = countCalls();
    let id = "";
    for (const [method, path, body, rpc] of REQUESTS[name]) {
      counter.calls.length = 0;
      const response = await app.request(`/${name}${path.replace(":id", id)}`, {
        method,
        headers: {
          apikey: secretKey,
          "x-user-id": alice.id,
          ...(body !== undefined && { "content-type": "application/json" }),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      const text = await response.text();
      assertEquals([response.ok, counter.calls], [true, [`/rest/v1/rpc/${rpc}`]], `${method} ${path}: ${text}`);
      if (text) id ||= JSON.parse(text).id;
    }
  });
}
