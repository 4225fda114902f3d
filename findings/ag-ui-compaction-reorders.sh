#!/usr/bin/env bash
# @ag-ui/client 1.0.0: compactEvents() changes the order of the messages of a conversation.
#
# One would swear: compaction keeps the meaning (its documentation says so): replayed, the compacted events give the
# conversation that the events gave.
# What happens: a message is written out where it ends, and what happened while it was open is put before it. A tool
# call made in the middle of an answer comes before the answer; of two messages that overlap, the one that ends first
# comes first. Both streams below pass verifyEvents().
# Why it matters: compactEvents() is what AG-UI has for storing histories. The reader after a reload sees another order
# than the reader of the live stream, and the model gets the call before the words that led to it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent @ag-ui/client@1.0.0 rxjs@7.8.1

cat >probe.mjs <<'EOF'
import { compactEvents, defaultApplyEvents, verifyEvents } from "@ag-ui/client";
import { from, lastValueFrom, toArray } from "rxjs";

const run = { threadId: "thread-1", runId: "run-1" };
const text = (messageId) => ({
  start: { type: "TEXT_MESSAGE_START", messageId, role: "assistant" },
  say: (delta) => ({ type: "TEXT_MESSAGE_CONTENT", messageId, delta }),
  end: { type: "TEXT_MESSAGE_END", messageId },
});
const [answer, aside] = [text("answer"), text("aside")];
const call = [
  { type: "TOOL_CALL_START", toolCallId: "call", toolCallName: "search" },
  { type: "TOOL_CALL_ARGS", toolCallId: "call", delta: "{}" },
  { type: "TOOL_CALL_END", toolCallId: "call" },
];
const streams = {
  "a call within an answer": [answer.start, answer.say("I look it up. "), ...call, answer.say("Found."), answer.end],
  "two messages overlap": [answer.start, aside.start, aside.say("A."), aside.end, answer.say("B."), answer.end],
};

async function replay(events) {
  const input = { ...run, messages: [], state: {}, tools: [], context: [] };
  const verified = from(events).pipe(verifyEvents(false));
  const applied = defaultApplyEvents(input, verified, { messages: [], state: {} }, []);
  const changes = await lastValueFrom(applied.pipe(toArray()));
  const last = changes.filter((change) => change.messages).at(-1);
  return last.messages.map((message) => message.id).join(", ");
}
for (const [name, body] of Object.entries(streams)) {
  const events = [{ type: "RUN_STARTED", ...run }, ...body, { type: "RUN_FINISHED", ...run }];
  console.log(name);
  console.log("  as streamed:", await replay(events));
  console.log("  compacted:  ", await replay(compactEvents(events)));
}
EOF

# The output seen:
cat >seen.txt <<'EOF'
a call within an answer
  as streamed: answer, call
  compacted:   call, answer
two messages overlap
  as streamed: answer, aside
  compacted:   aside, answer
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
