/** What the function costs by itself: every call of the database is answered at once, and no socket is involved. */
import { signToken } from "./server.ts";
import { readStack } from "./stack.ts";
import { milliseconds, summarize } from "./stats.ts";
import { text } from "./text.ts";

const REQUESTS = Number(Deno.args[0]);
const id = crypto.randomUUID();
const contents = Array.from({ length: 20 }, () => text(512));
const message = (content: string, i: number) => ({
  id: crypto.randomUUID(),
  conversation_id: id,
  sequence_order: i + 1,
  type: "message",
  role: i % 2 ? "assistant" : "user",
  content,
  parts: null,
  name: null,
  function_call: null,
  tool_calls: null,
  tool_call_id: null,
  item_id: null,
  model: null,
  usage: null,
  status: "complete",
  token_count: null,
  author: "user",
  metadata: {},
  created_at: "2026-01-31T12:00:00.123456+00:00",
});
const messages = contents.map(message);
const answers: Record<string, string> = {
  append_messages: JSON.stringify({ messages: messages.slice(0, 2), last_sequence_order: 2 }),
  list_messages: JSON.stringify({ data: messages, has_more: true }),
};
globalThis.fetch = (input) => {
  const name = new URL(input instanceof Request ? input.url : input).pathname.split("/").at(-1)!;
  return Promise.resolve(new Response(answers[name], { headers: { "content-type": "application/json" } }));
};
const { app } = await import("../../supabase/functions/conversations/app.ts");

const stack = readStack();
const token = await signToken(stack);
const url = `http://localhost/conversations/${id}/messages`;
const body = JSON.stringify({
  messages: [{ role: "user", content: contents[0] }, { role: "assistant", content: contents[1] }],
});
const append = (token: string) =>
  new Request(url, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body,
  });
const requests = {
  append: () => append(token),
  load: () => new Request(`${url}?limit=20&order=desc`, { headers: { authorization: `Bearer ${token}` } }),
  firstAppend: async () => append(await signToken(stack)),
};

const result: Record<string, unknown> = {};
for (const [name, request] of Object.entries(requests)) {
  const times = [];
  for (let i = 0; i < REQUESTS * 2; i++) {
    const sent = await request();
    const time = await milliseconds(async () => {
      const response = await app.fetch(sent);
      await response.text();
      if (!response.ok) throw new Error(`The function answered ${response.status}`);
    });
    // The first half is the compiler's.
    if (i >= REQUESTS) times.push(time);
  }
  result[name] = summarize(times);
}
console.log(JSON.stringify(result));
