#!/usr/bin/env bash
# deno 2.9.6: fetch() sends a POST a second time, by itself, although the server has received all of it.
#
# One would swear: a POST whose connection closes before the answer is rejected, and the caller decides whether to repeat
# it: RFC 9110, 9.2.2, asks clients not to repeat what is not idempotent, and Node's fetch does not.
# What happens: where the connection had served a request before, a body of text or bytes is sent again on a new one, and
# the caller is told of one success. A body that is a Blob or a stream is sent once, and the fetch is rejected.
# Why it matters: an edge function that appends through REST, and a gateway that is restarted in that moment, store a
# message two times, and nobody hears of it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent deno@2.9.6

cat >probe.mjs <<'EOF'
import { once } from "node:events";
import { createServer } from "node:net";

// Every request is answered but one: the second is read to its end, and its connection closed.
async function received(bodyOf) {
  const bodies = [];
  const server = createServer((socket) => {
    let text = "";
    socket.on("error", () => {});
    socket.on("data", (data) => {
      text += data;
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return;
      const body = text.slice(end + 4);
      if (/chunked/i.test(text) ? !body.endsWith("0\r\n\r\n") : body.length < 6) return;
      bodies.push(body);
      text = "";
      if (bodies.length === 2) socket.destroy();
      else socket.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const send = async (body, init = {}) => {
    const response = await fetch(`http://127.0.0.1:${server.address().port}/`, { method: "POST", body, ...init });
    await response.text();
    return response.status;
  };
  await send("first!");
  const told = await bodyOf(send).catch(() => "rejected");
  const times = bodies.filter((body) => body.includes("second")).length;
  return `received ${times} time(s), the caller: ${told}`;
}
const bodies = {
  "text  ": (send) => send("second"),
  "bytes ": (send) => send(new TextEncoder().encode("second")),
  "Blob  ": (send) => send(new Blob(["second"])),
  "stream": (send) => send(new Blob(["second"]).stream(), { duplex: "half" }),
};
for (const [name, bodyOf] of Object.entries(bodies)) console.log(name, await received(bodyOf));
process.exit();
EOF

# The output seen:
cat >seen.txt <<'EOF'
Deno
text   received 2 time(s), the caller: 200
bytes  received 2 time(s), the caller: 200
Blob   received 1 time(s), the caller: rejected
stream received 1 time(s), the caller: rejected
Node, the control
text   received 1 time(s), the caller: rejected
bytes  received 1 time(s), the caller: rejected
Blob   received 1 time(s), the caller: rejected
stream received 1 time(s), the caller: rejected
EOF
{
  echo "Deno"
  node_modules/.bin/deno run --quiet --no-config --allow-net probe.mjs
  echo "Node, the control"
  node probe.mjs
} | tee got.txt
diff -u seen.txt got.txt
