#!/usr/bin/env bash
# @supabase/functions-js 2.119.0: invoke() sends a stream, form fields and a Uint8Array as JSON that has lost the data.
#
# One would swear: bodies that fetch() takes are sent as fetch() sends them; ArrayBuffer, Blob and FormData are.
# What happens: every other object goes through JSON.stringify. A ReadableStream, which the type of `body` lists,
# becomes {}, form fields too; the bytes "hi" become {"0":104,"1":105}. Content-Type says JSON, so the function parses
# it and sees no mistake.
# Why it matters: an export or attachment that is streamed up is stored as nothing, one from a Buffer or TextEncoder as
# many times its size in digits, with status 200.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent @supabase/functions-js@2.119.0

cat >probe.mjs <<'EOF'
import { createServer } from "node:http";
import { FunctionsClient } from "@supabase/functions-js";

const server = createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  response.end(`${request.headers["content-type"]} ${body}`);
}).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const url = `http://127.0.0.1:${server.address().port}`;

const bytes = new TextEncoder().encode("hi");
const bodies = {
  ArrayBuffer: () => bytes.buffer,
  Uint8Array: () => bytes,
  URLSearchParams: () => new URLSearchParams({ title: "hi" }),
  ReadableStream: () => new Blob(["hi"]).stream(),
};
for (const [name, body] of Object.entries(bodies)) {
  const plain = await fetch(url, { method: "POST", body: body(), duplex: "half" });
  const { data } = await new FunctionsClient(url).invoke("upload", { body: body() });
  console.log(name);
  console.log("  fetch: ", await plain.text());
  console.log("  invoke:", data);
}
server.close();
server.closeAllConnections();
EOF

# The output seen:
cat >seen.txt <<'EOF'
ArrayBuffer
  fetch:  undefined hi
  invoke: application/octet-stream hi
Uint8Array
  fetch:  undefined hi
  invoke: application/json {"0":104,"1":105}
URLSearchParams
  fetch:  application/x-www-form-urlencoded;charset=UTF-8 title=hi
  invoke: application/json {}
ReadableStream
  fetch:  undefined hi
  invoke: application/json {}
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
