// The Agents SDK, unmodified, with a session in Threadbase. The model is its own scripted one: no network is needed.
import { MemorySession, OpenAIConversationsSession } from "@openai/agents";
import { assert, assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { PARALLEL_CALLS, takeTurn, type Turn } from "../support/agent.ts";
import { baseURL, openaiOf } from "../support/openai.ts";
import { newConversation, signUp } from "../support/stack.ts";

const alice = await signUp();

async function runInNewProcess(turn: number, conversationId?: string): Promise<Turn> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "--allow-all", "--no-check", "--config", fileURLToPath(new URL("../../deno.json", import.meta.url))],
      fileURLToPath(new URL("../support/agent.ts", import.meta.url)),
      JSON.stringify({ baseURL, apiKey: alice.token, conversationId, turn }),
    ],
  }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout));
}

/**
 * What an item tells a model. The SDK itself writes the same in more than one way: a text or a list with one, and a
 * result's tool by its name or, once it has been in a conversation of OpenAI's, by the call.
 */
// deno-lint-ignore no-explicit-any -- the SDK's union of items
function told(item: any): string {
  // deno-lint-ignore no-explicit-any -- a text, or parts
  const text = (value: any) => [value].flat().map((part) => part.text ?? part).join();
  switch (item.type) {
    case "function_call":
      return `${item.callId} = ${item.name}(${item.arguments})`;
    case "function_call_result":
      return `${item.callId}: ${text(item.output)}`;
    case "reasoning":
      return `${item.id} ${text(item.content)}`;
    default:
      return `${item.role}: ${text(item.content)}`;
  }
}

Deno.test("a run with parallel tool calls continues over three restarts of its process, from its session alone", async () => {
  const memory = new MemorySession();
  let conversationId: string | undefined;
  for (const turn of [1, 2, 3, 4]) {
    const { sessionId, inputs, items, answer } = await runInNewProcess(turn, conversationId);
    assertEquals(sessionId, conversationId ?? sessionId);
    conversationId = sessionId;
    assertEquals(answer, `${turn * PARALLEL_CALLS} results after turn ${turn}`);

    // The model was told, item by item, what it would have been told without a restart.
    const expected = await takeTurn(memory, turn);
    assertEquals(inputs.map((input) => input.map(told)), expected.inputs.map((input) => input.map(told)));
    assertEquals(items.length, turn * (3 + 2 * PARALLEL_CALLS));
    assertEquals(items.filter((item) => item.type === "unknown"), []);
    assertEquals(new Set(items.map((item) => item.id)).size, items.length);
  }
  const { body } = await alice.request("GET", "/conversations/search?q=question");
  assertEquals(body.data.length, 4, "and it is found");
});

Deno.test("getItems(limit) answers the newest, popItem() takes one away, clearSession() all", async () => {
  const session = new OpenAIConversationsSession({ client: openaiOf(alice) });
  await session.addItems([1, 2, 3].map((n) => ({ role: "user" as const, content: `m${n}` })));
  // deno-lint-ignore no-explicit-any -- the SDK's union of items
  const texts = async (limit?: number) => (await session.getItems(limit)).map((item: any) => item.content[0].text);
  assertEquals([await texts(), await texts(2)], [["m1", "m2", "m3"], ["m2", "m3"]]);
  await session.popItem();
  assertEquals(await texts(), ["m1", "m2"]);
  const id = session.sessionId!;
  await session.clearSession();
  const { body } = await alice.request("GET", `/openai/v1/conversations/${id}`);
  assertEquals(body.error.code, "conversation_not_found");
});

Deno.test("a session reads what the conversations API wrote: no item is unknown", async () => {
  const conversation = await newConversation(alice, {
    messages: [
      { role: "system", content: "Be kind." },
      { role: "user", parts: [{ type: "text", text: "Look" }, { type: "image_url", image_url: { url: "data:," } }] },
      {
        role: "assistant",
        content: "I look.",
        tool_calls: [{ id: "c1", type: "function", function: { name: "look", arguments: "{}" } }],
      },
      { role: "tool", tool_call_id: "c1", content: "a cat" },
      { role: "assistant", parts: [{ type: "text", text: "A cat." }] },
    ],
  });
  const session = new OpenAIConversationsSession({
    client: openaiOf(alice),
    conversationId: `conv_${conversation.replaceAll("-", "")}`,
  });
  const types = (await session.getItems()).map((item) => item.type);
  assertEquals(types, ["message", "message", "message", "function_call", "function_call_result", "message"]);
  const { answer } = await takeTurn(session, 1);
  assertEquals(answer, `${PARALLEL_CALLS + 1} results after turn 1`);
  assert((await session.getItems()).every((item) => item.type !== "unknown"));
});
