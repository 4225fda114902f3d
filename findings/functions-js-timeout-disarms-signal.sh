#!/usr/bin/env bash
# @supabase/functions-js 2.119.0: with `timeout`, invoke() can no longer be aborted once the headers are there.
#
# One would swear: `timeout` adds a limit and leaves `signal` as it was; either of them ends the call.
# What happens: with a timeout the two are joined in a controller that is let go when the headers arrive. From then on
# neither works: the stream runs past the timeout, and abort() does nothing. Without `timeout` the same abort() ends
# the same stream at once.
# Why it matters: an answer streams for longer than its headers take. The Stop button does nothing, the model is paid
# to its last word, and the server, which sees no disconnect, saves the whole answer that the user had stopped.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent @supabase/functions-js@2.119.0

cat >probe.mjs <<'EOF'
import { createServer } from "node:http";
import { FunctionsClient } from "@supabase/functions-js";

const WORDS = 20;
const server = createServer((_, response) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  let words = 0;
  const timer = setInterval(() => {
    response.write(`data: word\n\n`);
    if (++words === WORDS) response.end();
  }, 100);
  response.once("close", () => clearInterval(timer));
}).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));
const client = new FunctionsClient(`http://127.0.0.1:${server.address().port}`);

for (const timeout of [undefined, 1500]) {
  const stop = new AbortController();
  const { data } = await client.invoke("answer", { signal: stop.signal, timeout });
  let words = 0;
  let end = "read to its end";
  try {
    for await (const chunk of data.body) {
      words += new TextDecoder().decode(chunk).split("data:").length - 1;
      if (words >= 2) stop.abort();
    }
  } catch (error) {
    end = error.name;
  }
  const read = words < WORDS ? "stopped early" : `all ${words} words`;
  console.log(`timeout ${timeout}, aborted at word 2: ${end}, ${read}`);
}
server.close();
server.closeAllConnections();
EOF

# The output seen:
cat >seen.txt <<'EOF'
timeout undefined, aborted at word 2: AbortError, stopped early
timeout 1500, aborted at word 2: read to its end, all 20 words
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
