#!/usr/bin/env bash
# @tanstack/ai 0.58.0: the model messages of one answer all have its id, and come back as that many UI messages.
#
# One would swear: modelMessagesToUIMessages() undoes convertMessagesToModelMessages(), and ids tell messages apart.
# What happens: an answer that used two tools becomes three assistant messages with one id; the way back makes three UI
# messages of it, again with one id. A system message is gone on the way there.
# Why it matters: a store with (conversation, id) as its key keeps one third of the answer, if it upserts, or refuses
# the second row. What was one bubble is three after a reload.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent @tanstack/ai@0.58.0

cat >probe.mjs <<'EOF'
import { convertMessagesToModelMessages, modelMessagesToUIMessages } from "@tanstack/ai";

const call = (id) => ({ type: "tool-call", id, name: "search", arguments: "{}", state: "input-complete" });
const result = (toolCallId) => ({ type: "tool-result", toolCallId, content: "found", state: "complete" });
const text = (content) => ({ type: "text", content });
const messages = [
  { id: "msg-1", role: "system", parts: [text("Be brief.")] },
  { id: "msg-2", role: "user", parts: [text("Where is it?")] },
  {
    id: "msg-3",
    role: "assistant",
    parts: [text("I look."), call("c1"), result("c1"), text("Again."), call("c2"), result("c2"), text("There.")],
  },
];
const modelMessages = convertMessagesToModelMessages(messages);
const back = modelMessagesToUIMessages(modelMessages);
const show = (list) => list.map((message) => `${message.role} ${message.id ?? "-"}`).join(", ");
console.log("UI:   ", show(messages));
console.log("model:", show(modelMessages));
console.log("UI:   ", show(back));
console.log("kept by id:", JSON.stringify(new Map(back.map((message) => [message.id, message])).get("msg-3").parts));
EOF

# The output seen:
cat >seen.txt <<'EOF'
UI:    system msg-1, user msg-2, assistant msg-3
model: user msg-2, assistant msg-3, tool -, assistant msg-3, tool -, assistant msg-3
UI:    user msg-2, assistant msg-3, assistant msg-3, assistant msg-3
kept by id: [{"type":"text","content":"There."}]
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
