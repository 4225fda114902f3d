#!/usr/bin/env bash
# openai 7.59.0: the request option `idempotencyKey` sends nothing, and a failed POST is sent again without a key.
#
# One would swear: a documented option reaches the wire. Its type says it is "a unique key for this request to enable
# idempotency", and the client retries twice by itself.
# What happens: the client has no name for the header, so key and option are dropped without a word. The three requests
# are alike but for x-stainless-retry-count. A header set by hand is sent.
# Why it matters: `conversations.items.create` appends. When the answer to a write was lost (a 503 or a cut connection
# after it was committed), the message is stored up to three times; a server has to recognize repeats by itself.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent openai@7.59.0

cat >probe.mjs <<'EOF'
import { createServer } from "node:http";
import OpenAI from "openai";

const requests = [];
const server = createServer((request, response) => {
  const headers = Object.entries(request.headers).filter(([name]) => /idempotency|retry-count/.test(name));
  requests.push(JSON.stringify(Object.fromEntries(headers)));
  response.writeHead(requests.length % 3 ? 503 : 200, { "content-type": "application/json", "retry-after-ms": "1" });
  response.end('{"object":"list","data":[]}');
}).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));

const client = new OpenAI({ apiKey: "none", baseURL: `http://127.0.0.1:${server.address().port}` });
const body = { items: [{ type: "message", role: "user", content: "Pay the invoice." }] };
const post = (options) => client.conversations.items.create("conv_1", body, options);

await post({ idempotencyKey: "key-1" });
console.log(["option:", ...requests.splice(0)].join("\n  "));
await post({ headers: { "Idempotency-Key": "key-1" } });
console.log(["header:", ...requests.splice(0)].join("\n  "));
server.close();
server.closeAllConnections();
EOF

# The output seen:
cat >seen.txt <<'EOF'
option:
  {"x-stainless-retry-count":"0"}
  {"x-stainless-retry-count":"1"}
  {"x-stainless-retry-count":"2"}
header:
  {"x-stainless-retry-count":"0","idempotency-key":"key-1"}
  {"x-stainless-retry-count":"1","idempotency-key":"key-1"}
  {"x-stainless-retry-count":"2","idempotency-key":"key-1"}
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
