#!/usr/bin/env bash
# postgres (postgres.js) 3.4.9: `transform: postgres.camel` renames the keys inside jsonb values, on the way out only.
#
# One would swear: it is about columns ("transform the column names to and from camel case", says the README), and what
# is read and written back is what was there.
# What happens: the keys of every json and jsonb value are renamed too, at any depth, a tool's own arguments among
# them. On the way in only columns are renamed: reading a row and saving it changes the stored JSON for good.
# Why it matters: message formats are full of snake_case, and their stores use jsonb. After one edit of a title, say,
# `tool_calls` is `toolCalls`, which no API knows, and the tool is called with arguments it does not have.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent --legacy-peer-deps \
  postgres@3.4.9 @electric-sql/pglite@0.5.14 @electric-sql/pglite-socket@0.2.17

cat >probe.mjs <<'EOF'
import { PGlite } from "@electric-sql/pglite";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";
import postgres from "postgres";

const db = await PGlite.create();
const server = new PGLiteSocketServer({ db, host: "127.0.0.1", port: 0 });
await server.start();
const [, port] = server.getServerConn().split(":");
const connection = { host: "127.0.0.1", port, user: "postgres", database: "postgres", ssl: false, max: 1 };
const sql = postgres({ ...connection, transform: postgres.camel });

await db.exec("create table messages (message_id int, body jsonb)");
const body = { role: "assistant", tool_calls: [{ call_id: "c1", arguments: { file_path: "a.md" } }] };
await sql`insert into messages ${sql({ messageId: 1, body })}`;
const stored = async () => (await db.query("select body from messages")).rows[0].body;
const show = (label, value) => console.log(label.padEnd(11), JSON.stringify(value));

show("inserted", await stored());
const [row] = await sql`select * from messages`;
show("read", row.body);
await sql`update messages set ${sql(row, "body")} where message_id = ${row.messageId}`;
show("saved again", await stored());
await sql.end();
await server.stop();
process.exit();
EOF

# The output seen:
cat >seen.txt <<'EOF'
inserted    {"role":"assistant","tool_calls":[{"call_id":"c1","arguments":{"file_path":"a.md"}}]}
read        {"role":"assistant","toolCalls":[{"callId":"c1","arguments":{"filePath":"a.md"}}]}
saved again {"role":"assistant","toolCalls":[{"callId":"c1","arguments":{"filePath":"a.md"}}]}
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
