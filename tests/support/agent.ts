// An agent that calls 15 tools at once and remembers through its session. As a program, it takes one turn in a process
// of its own and knows nothing but the session's id:
//
//   deno run tests/support/agent.ts '{"baseURL":"…","apiKey":"…","conversationId":"conv_…","turn":2}'
import {
  Agent,
  type AgentInputItem,
  OpenAIConversationsSession,
  run,
  type Session,
  setTracingDisabled,
  tool,
} from "@openai/agents";
import { assistantMessage, functionCall, modelResponder, ScriptedModel } from "@openai/agents-core/testing";
import OpenAI from "openai";
import { z } from "zod";

export const PARALLEL_CALLS = 15;

/** What a turn shows of itself. */
export interface Turn {
  sessionId: string;
  /** What the model was given, for each of its calls. */
  inputs: AgentInputItem[][];
  /** The session after the turn. */
  items: AgentInputItem[];
  answer: string;
}

/** Runs a turn against a scripted model: it thinks, calls the tool 15 times at once, and counts what it was told. */
export async function takeTurn(session: Session, turn: number): Promise<Turn> {
  setTracingDisabled(true);
  const weather = tool({
    name: "weather",
    description: "The weather in a city.",
    parameters: z.object({ city: z.string() }),
    execute: ({ city }) => `${city}: mild`,
  });
  const model = new ScriptedModel([
    [
      { type: "reasoning", id: `rs_${turn}`, content: [{ type: "input_text", text: `Thoughts of turn ${turn}` }] },
      ...Array.from(
        { length: PARALLEL_CALLS },
        (_, n) => functionCall("weather", { city: `city ${n}` }, { callId: `call_${turn}_${n}` }),
      ),
    ],
    modelResponder(({ request }) => {
      const results = (request.input as AgentInputItem[]).filter((item) => item.type === "function_call_result");
      return [assistantMessage(`${results.length} results after turn ${turn}`)];
    }),
  ]);
  const agent = new Agent({ name: "Forecaster", model, tools: [weather] });
  const { finalOutput } = await run(agent, `Question ${turn}`, { session });
  model.assertComplete();
  return {
    sessionId: await session.getSessionId(),
    inputs: model.calls.map((call) => call.request.input as AgentInputItem[]),
    items: await session.getItems(),
    answer: finalOutput ?? "",
  };
}

if (import.meta.main) {
  const { baseURL, apiKey, conversationId, turn } = JSON.parse(Deno.args[0]);
  const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
  console.log(JSON.stringify(await takeTurn(new OpenAIConversationsSession({ client, conversationId }), turn)));
}
