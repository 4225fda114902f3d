#!/usr/bin/env bash
# @ai-sdk/langchain 3.0.99: a tool call that the user refused, or that failed, arrives as one that succeeded.
#
# One would swear: ToolMessage has `status: "error"` for that, and an `execution-denied` result has a reason to carry.
# What happens: convertModelMessages() never sets `status`; a denial becomes an empty string, its reason is gone; a
# result that is only an image or a file is an empty string too. The two empty ones cannot be told apart.
# Why it matters: a conversation moved from the AI SDK to LangChain says that the payment, which the user stopped, went
# through without a word; the model that reads it on will believe it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent \
  @ai-sdk/langchain@3.0.99 ai@7.0.173 @langchain/core@1.4.0 @langchain/langgraph@1.7.3

cat >probe.mjs <<'EOF'
import { convertModelMessages } from "@ai-sdk/langchain";
import { modelMessageSchema } from "ai";

const outputs = [
  { type: "text", value: "paid" },
  { type: "error-text", value: "the bank is closed" },
  { type: "execution-denied", reason: "wrong account" },
  { type: "content", value: [{ type: "file-url", url: "https://example.com/a.pdf", mediaType: "application/pdf" }] },
];
for (const output of outputs) {
  const result = { type: "tool-result", toolCallId: "call_1", toolName: "pay", output };
  const message = modelMessageSchema.parse({ role: "tool", content: [result] }); // valid, or this throws
  const [tool] = convertModelMessages([message]);
  console.log(output.type.padEnd(16), JSON.stringify({ content: tool.content, status: tool.status ?? null }));
}
EOF

# The output seen:
cat >seen.txt <<'EOF'
text             {"content":"paid","status":null}
error-text       {"content":"the bank is closed","status":null}
execution-denied {"content":"","status":null}
content          {"content":"","status":null}
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
