#!/usr/bin/env bash
# @openai/agents 0.20.0: a session that is written to another conversation as it was read loses its generated images.
#
# One would swear: addItems() writes what getItems() has read; both are methods of one class, over one type of item.
# What happens: the image is in the field `output` of what is read, and only `result: null` of it is sent. The item keeps its
# type and its status `completed`, so nothing shows that the image is gone.
# Why it matters: sessions are copied to branch, to compact or to move a conversation. The copy is complete to whoever
# counts its items, and the only bytes of the image are gone with the original.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent @openai/agents@0.20.0 openai@7.59.0 zod@4.6.7

cat >probe.mjs <<'EOF'
import { OpenAIConversationsSession } from "@openai/agents";
import OpenAI from "openai";

const image = { id: "ig_1", type: "image_generation_call", status: "completed", result: "aW1hZ2U=" };
const items = [image];
const posted = [];
const fetch = async (url, init) => {
  if (init?.method?.toUpperCase() === "POST") {
    const body = JSON.parse(init.body);
    posted.push(...body.items);
    return Response.json({ object: "list", data: body.items, has_more: false });
  }
  return Response.json({ object: "list", data: items, first_id: "ig_1", last_id: "ig_1", has_more: false });
};
const client = new OpenAI({ apiKey: "none", baseURL: "http://127.0.0.1:9/v1", fetch });
const read = await new OpenAIConversationsSession({ client, conversationId: "conv_1" }).getItems();
console.log("read:   ", JSON.stringify(read));
await new OpenAIConversationsSession({ client, conversationId: "conv_2" }).addItems(read);
console.log("written:", JSON.stringify(posted));
EOF

# The output seen:
cat >seen.txt <<'EOF'
read:    [{"type":"hosted_tool_call","id":"ig_1","name":"image_generation_call","status":"completed","output":"aW1hZ2U=","providerData":{"id":"ig_1","type":"image_generation_call"}}]
written: [{"type":"image_generation_call","result":null,"status":"completed"}]
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
