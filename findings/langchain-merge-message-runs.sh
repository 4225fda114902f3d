#!/usr/bin/env bash
# @langchain/core 1.4.0: mergeMessageRuns() adds up the metadata of the messages that it merges.
#
# One would swear: merging neighbours of one role joins their text and keeps the metadata of one of them.
# What happens: whole messages are merged like chunks of one stream. Strings of the metadata are glued together
# ("gpt-4ogpt-4o", "lengthstop"), numbers are added (two Unix times become the year 2082), and names are dropped: what
# Bob said stands under Ann's id, said by nobody.
# Why it matters: it is the usual step before a model that wants alternating roles, and for tidying a history. A memory
# that saves the result has models that do not exist, times in the future and words without a speaker.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent @langchain/core@1.4.0

cat >probe.mjs <<'EOF'
import { AIMessage, HumanMessage, mergeMessageRuns } from "@langchain/core/messages";

const answer = (content, finish_reason) =>
  new AIMessage({ content, response_metadata: { model_name: "gpt-4o", finish_reason } });
const [merged] = mergeMessageRuns([answer("Half", "length"), answer("whole", "stop")]);
console.log("answer  ", JSON.stringify(merged.content), JSON.stringify(merged.response_metadata));

const said = (id, name, content, created_at) =>
  new HumanMessage({ id, name, content, additional_kwargs: { created_at } });
const [both] = mergeMessageRuns([
  said("msg-1", "Ann", "Pay the invoice.", 1767225600),
  said("msg-2", "Bob", "Do not pay it!", 1767225660),
]);
console.log("question", JSON.stringify(both.content), JSON.stringify({ id: both.id, name: both.name ?? null }));
console.log("time    ", new Date(both.additional_kwargs.created_at * 1000).toISOString());
EOF

# The output seen:
cat >seen.txt <<'EOF'
answer   "Half\nwhole" {"model_name":"gpt-4ogpt-4o","finish_reason":"lengthstop"}
question "Pay the invoice.\nDo not pay it!" {"id":"msg-1","name":null}
time     2082-01-01T00:01:00.000Z
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
