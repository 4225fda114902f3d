#!/usr/bin/env bash
# gpt-tokenizer 4.0.0: encodeChat() puts the name of a message in the place of its role.
#
# One would swear: `name` is written beside the role and costs extra (OpenAI's own recipe adds it), and the two chat
# counts of one package agree.
# What happens: encodeChat() makes "<|im_start|>Ann<|im_sep|>" of a user called Ann: no user is left, and the name is
# free. countChatCompletionTokens() of the same package counts two tokens more for the same message, as
# openai-chat-tokens does.
# Why it matters: a window cut by one count does not fit by the other, two tokens for every message of a group chat,
# and token counts stored with the messages cannot be compared without knowing which function made them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent gpt-tokenizer@4.0.0 openai-chat-tokens@0.2.8

cat >probe.mjs <<'EOF'
import { countChatCompletionTokens, decode, encodeChat } from "gpt-tokenizer/model/gpt-4o";
import { promptTokensEstimate } from "openai-chat-tokens";

for (const message of [{ role: "user", content: "Hi" }, { role: "user", name: "Ann", content: "Hi" }]) {
  const messages = [message];
  console.log(JSON.stringify(message));
  console.log("  encodeChat               ", encodeChat(messages).length, decode(encodeChat(messages)));
  console.log("  countChatCompletionTokens", countChatCompletionTokens({ messages }));
  console.log("  openai-chat-tokens       ", promptTokensEstimate({ messages }));
}
EOF

# The output seen:
cat >seen.txt <<'EOF'
{"role":"user","content":"Hi"}
  encodeChat                8 <|im_start|>user<|im_sep|>Hi<|im_end|><|im_start|>assistant<|im_sep|>
  countChatCompletionTokens 8
  openai-chat-tokens        8
{"role":"user","name":"Ann","content":"Hi"}
  encodeChat                8 <|im_start|>Ann<|im_sep|>Hi<|im_end|><|im_start|>assistant<|im_sep|>
  countChatCompletionTokens 10
  openai-chat-tokens        10
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
