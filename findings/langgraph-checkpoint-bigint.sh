#!/usr/bin/env bash
# @langchain/langgraph-checkpoint 1.2.2 saves a whole checkpoint as one sentence if its state holds a BigInt.
#
# One would swear: a value that cannot be serialized is an error (JSON.stringify throws), or is lost alone.
# What happens: the serializer catches the error of JSON.stringify and writes the string "[unable to serialize,
# circular reference is too complex to analyze]" in place of the checkpoint. invoke() succeeds; the thread is gone:
# getState() fails on a string and the next turn starts from an empty history. Real circular references are saved
# without trouble.
# Why it matters: bigint is what PGlite gives for an int8 beyond 2^53, and what many use for row ids anyway. One of
# them in the state, and every message of the conversation is silently lost. The other savers share this serializer.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent \
  @langchain/langgraph@1.7.3 @langchain/langgraph-checkpoint@1.2.2 @langchain/core@1.4.0

cat >probe.mjs <<'EOF'
import { Annotation, END, MemorySaver, MessagesAnnotation, START, StateGraph } from "@langchain/langgraph";
import { AIMessage, HumanMessage } from "@langchain/core/messages";

const State = Annotation.Root({ ...MessagesAnnotation.spec, row: Annotation() });
const graph = new StateGraph(State)
  .addNode("answer", ({ messages }) => ({ messages: [new AIMessage(`I know ${messages.length} messages.`)] }))
  .addEdge(START, "answer").addEdge("answer", END)
  .compile({ checkpointer: new MemorySaver() });

for (const row of [7, 9007199254740993n]) {
  const thread = { configurable: { thread_id: `row ${row}` } };
  const say = async (text, more) => {
    const { messages } = await graph.invoke({ messages: [new HumanMessage(text)], ...more }, thread);
    return messages.at(-1).content;
  };
  console.log(typeof row);
  console.log("  turn 1:", await say("Hello.", { row }));
  const state = await graph.getState(thread).catch((error) => error);
  console.log("  state: ", state.values ? `${state.values.messages.length} messages` : `throws ${state.message}`);
  console.log("  turn 2:", await say("Do you remember me?"));
}
EOF

# The output seen:
cat >seen.txt <<'EOF'
number
  turn 1: I know 1 messages.
  state:  2 messages
  turn 2: I know 3 messages.
bigint
  turn 1: I know 1 messages.
  state:  throws Cannot read properties of undefined (reading 'messages')
  turn 2: I know 1 messages.
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
