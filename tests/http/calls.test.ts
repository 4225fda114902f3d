// One request, one database call: the functions run in this process, against the real REST API behind a counter.
import { assertEquals } from "@std/assert";
import { functions } from "../support/apps.ts";
import { countCalls } from "../support/calls.ts";
import { secretKey, signUp } from "../support/stack.ts";

const messages = Array.from({ length: 30 }, (_, i) => ({ role: "user", content: `m${i}` }));
const events = messages.map(({ content }) => ({ event_type: "user_message", content }));
const response = { input: "x", output: [{ role: "assistant", content: "y" }], model: "m", provider: "p" };
const items = [{ id: "msg_1", role: "user", content: "x" }];

/** The requests of each function in order, `:id` being that of the first one's answer, and the call each may make. */
const REQUESTS: Record<string, [method: string, path: string, body: unknown, rpc: string][]> = {
  conversations: [
    ["POST", "/conversations", { messages }, "create_conversation"],
    ["GET", "/conversations", undefined, "list_conversations"],
    ["GET", "/conversations/search?q=m1", undefined, "search_messages"],
    ["GET", "/conversations/:id", undefined, "get_conversation"],
    ["PATCH", "/conversations/:id", { title: "x" }, "update_conversation"],
    ["POST", "/conversations/:id/messages", { messages }, "append_messages"],
    ["GET", "/conversations/:id/messages?limit=20", undefined, "list_messages"],
    ["GET", "/conversations/:id/context", undefined, "get_context"],
    ["POST", "/conversations/:id/fork", { at: 1 }, "fork_conversation"],
    ["DELETE", "/conversations/:id", undefined, "delete_conversation"],
    ["DELETE", "/conversations?confirm=all", undefined, "erase_conversations"],
  ],
  sessions: [
    ["POST", "/sessions", {}, "open_session"],
    ["GET", "/sessions", undefined, "list_sessions"],
    ["GET", "/sessions/:id", undefined, "get_session"],
    ["POST", "/sessions/:id/events", { events }, "append_events"],
    ["GET", "/sessions/:id/events?limit=20", undefined, "list_events"],
    ["POST", "/sessions/:id/end", { summary: "x" }, "end_session"],
    ["GET", "/sessions/:id/events/stream", undefined, "list_events"],
    ["GET", "/sessions/audit?q=m1&fold=true", undefined, "audit_events"],
    ["GET", "/sessions/context", undefined, "get_session_context"],
    ["GET", "/sessions/unsummarized?limit=1&lease_seconds=1", undefined, "take_unsummarized"],
    ["GET", "/sessions/analytics", undefined, "session_analytics"],
  ],
  responses: [
    ["PUT", "/responses/r1", response, "put_response"],
    ["PUT", "/responses/r2", { ...response, previous_response_id: "r1" }, "put_response"],
    ["GET", "/responses/r2", undefined, "get_response"],
    ["HEAD", "/responses/r2", undefined, "get_response"],
    ["POST", "/responses/r2/merge", { input: "w" }, "merge_response"],
    ["DELETE", "/responses/r2", undefined, "delete_response"],
  ],
  openai: [
    ["POST", "/openai/v1/conversations", { items }, "create_conversation_of_items"],
    ["GET", "/openai/v1/conversations/:id", undefined, "get_conversation"],
    ["POST", "/openai/v1/conversations/:id", { metadata: {} }, "replace_metadata"],
    ["POST", "/openai/v1/conversations/:id/items", { items }, "append_items"],
    ["GET", "/openai/v1/conversations/:id/items", undefined, "list_items"],
    ["GET", "/openai/v1/conversations/:id/items/msg_1", undefined, "get_item"],
    ["DELETE", "/openai/v1/conversations/:id/items/msg_1", undefined, "delete_item"],
    ["DELETE", "/openai/v1/conversations/:id", undefined, "delete_conversation"],
    ["PUT", "/responses/r1", response, "put_response"],
    ["GET", "/openai/v1/responses/r1", undefined, "get_openai_response"],
    ["GET", "/openai/v1/responses/r1/input_items", undefined, "list_input_items"],
    ["DELETE", "/openai/v1/responses/r1", undefined, "delete_response"],
  ],
  documents: [
    [
      "POST",
      "/documents/calls/insert_many",
      { documents: messages.map((message, n) => ({ ...message, id: `d${n}` })) },
      "insert_documents",
    ],
    ["POST", "/documents/calls/insert_one", { document: { n: 1 } }, "insert_documents"],
    ["POST", "/documents/calls/find", { limit: 20 }, "find_documents"],
    ["POST", "/documents/calls/find_one", { filters: { content: "m3" } }, "find_document"],
    ["POST", "/documents/calls/count", {}, "count_documents"],
    ["POST", "/documents/calls/update_one", { filters: { n: 2 }, params: { n: 2 }, upsert: true }, "update_document"],
    ["POST", "/documents/calls/delete_one", { filters: { n: 2 } }, "delete_document"],
    ["POST", "/documents/calls/delete_many", { filters: { n: 1 } }, "delete_documents"],
    ["GET", "/documents", undefined, "list_collections"],
    ["PUT", "/documents/calls/version", { version: "1", expected_version: null }, "set_collection_version"],
    ["GET", "/documents/calls/version", undefined, "get_collection_version"],
    ["POST", "/documents/calls/failures", { id: "d1", reason: "x" }, "fail_document"],
    ["GET", "/documents/calls/failures", undefined, "list_failures"],
    ["POST", "/documents/calls/failures/restore", { id: "d1" }, "restore_document"],
    ["GET", "/documents/calls/indexes", undefined, "list_document_indexes"],
    ["POST", "/documents/calls/drop", {}, "drop_collection"],
  ],
  // Of an export, every page is one.
  users: [
    ["GET", "/users/me/export", undefined, "export_user_page"],
    ["GET", "/users/me/quotas", undefined, "get_quotas"],
    ["DELETE", "/users/me?confirm=all", undefined, "erase_user"],
    ["GET", "/users/erasures/:id", undefined, "get_erasure"],
  ],
  retention: [
    ["GET", "/retention/policies", undefined, "get_retention_policies"],
    ["GET", "/retention/runs?limit=1", undefined, "list_retention_runs"],
    ["GET", "/retention/preview", undefined, "retention_preview"],
  ],
};

for (const { name } of functions) {
  Deno.test(`${name}: every request makes exactly one database call`, async () => {
    const alice = await signUp();
    await using counter = await countCalls();
    let id = "";
    for (const [method, path, body, rpc] of REQUESTS[name]) {
      counter.calls.length = 0;
      const { app } = functions.find((edge) => path.startsWith(`/${edge.name}`))!;
      const response = await app.request(path.replace(":id", id), {
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
      const isJson = response.headers.get("content-type")?.includes("application/json");
      if (isJson && text) id ||= JSON.parse(text).id;
    }
  });
}
