#!/usr/bin/env bash
# @google/adk 2.0.0: InMemorySessionService.createSession() with an id that exists empties that session.
#
# One would swear: a taken id is an error, as the source of the same package's DatabaseSessionService has it.
# What happens: the session is replaced, its events and state are gone, nothing is thrown. Keys that begin with "user:"
# are no better: set by an event they are the user's, in every session; given to createSession() they stay in the one
# session. And `numRecentEvents: 0` returns all events.
# Why it matters: "create, and read on if it exists" is how a chat is opened again after a reload or by a second tab.
# Code whose tests pass on one service loses conversations, or fails, on the other.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent --omit=optional @google/adk@2.0.0

cat >probe.mjs <<'EOF'
import { createEvent, InMemorySessionService } from "@google/adk";

const service = new InMemorySessionService();
const chat = { appName: "shop", userId: "ann", sessionId: "chat-1" };
const count = async (config) => (await service.getSession({ ...chat, config })).events.length;

const session = await service.createSession({ ...chat, state: { "user:language": "de" } });
for (const text of ["Hello.", "I am Ann."]) {
  const content = { role: "user", parts: [{ text }] };
  const actions = { stateDelta: { "user:name": "Ann" } };
  await service.appendEvent({ session, event: createEvent({ author: "user", content, actions }) });
}
console.log("stored:                        ", await count(), "events");
console.log("with numRecentEvents 0:        ", await count({ numRecentEvents: 0 }), "events");
const other = await service.createSession({ ...chat, sessionId: "chat-2" });
console.log("the user's state in a new chat:", JSON.stringify(other.state));
await service.createSession(chat);
console.log("after createSession() again:   ", await count(), "events");
EOF

# The output seen:
cat >seen.txt <<'EOF'
stored:                         2 events
with numRecentEvents 0:         2 events
the user's state in a new chat: {"user:name":"Ann"}
after createSession() again:    0 events
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
