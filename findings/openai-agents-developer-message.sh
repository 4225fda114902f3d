#!/usr/bin/env bash
# @openai/agents 0.20.0: one developer message in an OpenAI conversation, and its session cannot be read any more.
#
# One would swear: the Agents SDK reads every item that the Conversations API of the same vendor has; `developer` is
# one of its roles, and any client may add such a message.
# What happens: OpenAIConversationsSession.getItems() throws for the whole conversation. `system` is read. So is the
# result of a function, but its name is replaced by its call id.
# Why it matters: the run loads the session first, so the agent never answers in that conversation again. A server that
# speaks this API to several clients has to expect that what one of them wrote stops another.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent @openai/agents@0.20.0 openai@7.59.0 zod@4.6.7

cat >probe.mjs <<'EOF'
import { createServer } from "node:http";
import { OpenAIConversationsSession } from "@openai/agents";
import OpenAI from "openai";

let data;
const server = createServer((_, response) => {
  response.setHeader("content-type", "application/json");
  const page = { first_id: data[0].id, last_id: data.at(-1).id, has_more: false };
  response.end(JSON.stringify({ object: "list", data, ...page }));
}).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const client = new OpenAI({ apiKey: "none", baseURL: `http://127.0.0.1:${server.address().port}` });
const session = new OpenAIConversationsSession({ client, conversationId: "conv_1" });

const message = (role) => ({
  id: `msg_${role}`, type: "message", role, status: "completed", content: [{ type: "input_text", text: "Be brief." }],
});
const shared = { status: "completed", call_id: "call_1" };
const call = { id: "fc_1", type: "function_call", ...shared, name: "search", arguments: "{}" };
const output = { id: "fco_1", type: "function_call_output", ...shared, output: "found" };
const conversations = {
  user: [message("user")],
  system: [message("system")],
  call: [call, output],
  developer: [message("developer"), message("user")],
};
for (const [name, items] of Object.entries(conversations)) {
  data = items;
  try {
    const read = await session.getItems();
    console.log(`${name}:`, read.map((item) => [item.role ?? item.type, item.name].join(" ").trim()).join(", "));
  } catch (error) {
    console.log(`${name}: throws`, error.message);
  }
}
server.close();
server.closeAllConnections();
EOF

# The output seen:
cat >seen.txt <<'EOF'
user: user
system: system
call: function_call search, function_call_result call_1
developer: throws Unsupported message content type: {"type":"input_text","text":"Be brief."}
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
