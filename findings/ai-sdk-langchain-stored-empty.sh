#!/usr/bin/env bash
# @ai-sdk/langchain 3.0.99 with @langchain/core 1.4.0: a question with an attachment is empty once it was stored.
#
# One would swear: LangChain's own pair mapChatMessagesToStoredMessages / mapStoredMessagesToChatMessages, which its
# chat histories save and load with, gives back what it was given.
# What happens: the adapter makes a HumanMessage of `contentBlocks` as soon as one part is not text. Stored, that is
# `content_blocks` without `content`; the way back knows only `content` and `contentBlocks`. Text and file are gone, no
# error. toJSON() and load() of the same package get the same message right; a plain text message survives both.
# Why it matters: exactly the messages with images or files become empty, days later, when the history is read; an
# importer of LangChain's `{type, data}` rows has to look for `content_blocks` too.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent \
  @ai-sdk/langchain@3.0.99 ai@7.0.173 @langchain/core@1.4.0 @langchain/langgraph@1.7.3

cat >probe.mjs <<'EOF'
import { toBaseMessages } from "@ai-sdk/langchain";
import { load } from "@langchain/core/load";
import { mapChatMessagesToStoredMessages, mapStoredMessagesToChatMessages } from "@langchain/core/messages";

const text = { type: "text", text: "What is on this picture?" };
const file = { type: "file", mediaType: "image/png", url: "https://example.com/picture.png" };
for (const parts of [[text], [text, file]]) {
  const [message] = await toBaseMessages([{ id: "msg-1", role: "user", parts }]);
  const rows = JSON.parse(JSON.stringify(mapChatMessagesToStoredMessages([message])));
  const [read] = mapStoredMessagesToChatMessages(rows);
  const loaded = await load(JSON.stringify(message));
  console.log(parts.map((part) => part.type).join(" and "));
  console.log("  sent  ", JSON.stringify(message.content));
  console.log("  stored", Object.keys(rows[0].data).filter((key) => key.startsWith("content")).join());
  console.log("  read  ", JSON.stringify(read.content));
  console.log("  load()", JSON.stringify(loaded.content));
}
EOF

# The output seen:
cat >seen.txt <<'EOF'
text
  sent   "What is on this picture?"
  stored content
  read   "What is on this picture?"
  load() "What is on this picture?"
text and file
  sent   [{"type":"text","text":"What is on this picture?"},{"type":"image","url":"https://example.com/picture.png"}]
  stored content_blocks
  read   []
  load() [{"type":"text","text":"What is on this picture?"},{"type":"image","url":"https://example.com/picture.png"}]
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
