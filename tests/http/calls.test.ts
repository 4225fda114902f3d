// One request, one database call: the functions run in this process, against the real REST API behind a counter.
import { assertEquals } from "@std/assert";
import { functions } from "../support/apps.ts";
import { countCalls } from "../support/calls.ts";
import { secretKey, signUp } from "../support/stack.ts";

const messages = Array.from({ length: 30 }, (_, i) => ({ role: "user", content: `m${i}` }));
const events = messages.map(({ content }) => ({ event_type: "user_message", content }));

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
  ],
  documents: [
    [
      "POST",
      "/calls/insert_many",
      { documents: messages.map((message, n) => ({ ...message, id: `d${n}` })) },
      "insert_documents",
    ],
    ["POST", "/calls/insert_one", { document: { n: 1 } }, "insert_documents"],
    ["POST", "/calls/find", { limit: 20 }, "find_documents"],
    ["POST", "/calls/find_one", { filters: { content: "m3" } }, "find_document"],
    ["POST", "/calls/count", {}, "count_documents"],
    ["POST", "/calls/update_one", { filters: { n: 2 }, params: { n: 2 }, upsert: true }, "update_document"],
    ["POST", "/calls/delete_one", { filters: { n: 2 } }, "delete_document"],
    ["POST", "/calls/delete_many", { filters: { n: 1 } }, "delete_documents"],
    ["GET", "", undefined, "list_collections"],
    ["PUT", "/calls/version", { version: "1", expected_version: null }, "set_collection_version"],
    ["GET", "/calls/version", undefined, "get_collection_version"],
    ["POST", "/calls/failures", { id: "d1", reason: "x" }, "fail_document"],
    ["GET", "/calls/failures", undefined, "list_failures"],
    ["POST", "/calls/failures/restore", { id: "d1" }, "restore_document"],
    ["GET", "/calls/indexes", undefined, "list_document_indexes"],
    ["POST", "/calls/drop", {}, "drop_collection"],
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
      id ||= JSON.parse(text).id;
    }
  });
}
