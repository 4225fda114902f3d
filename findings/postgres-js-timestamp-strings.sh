#!/usr/bin/env bash
# postgres (postgres.js) 3.4.9 passes even strings through a Date when the parameter is a timestamp.
#
# One would swear: a Date has milliseconds, so one keeps timestamps as strings, and a string reaches Postgres as it is
# (node-postgres, on the same server, sends it so).
# What happens: the driver asks the server for the parameter's type and makes `new Date(text).toISOString()` of the
# string. The microseconds are cut off, and what JavaScript takes for local time is moved to UTC before Postgres sees
# it.
# Why it matters: `created_at > ${cursor}` with the cursor that the API gave out returns the last row again, and again:
# a client that reads until a page is empty never ends. A copied conversation has other times than its source.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent --legacy-peer-deps \
  postgres@3.4.9 pg@8.23.1 @electric-sql/pglite@0.5.14 @electric-sql/pglite-socket@0.2.17

cat >probe.mjs <<'EOF'
import { PGlite } from "@electric-sql/pglite";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";
import pg from "pg";
import postgres from "postgres";

const db = await PGlite.create();
const server = new PGLiteSocketServer({ db, host: "127.0.0.1", port: 0, maxConnections: 2 });
await server.start();
const [, port] = server.getServerConn().split(":");
const connection = { host: "127.0.0.1", port: Number(port), user: "postgres", database: "postgres", ssl: false };

await db.exec("create table messages (id int, created_at timestamptz)");
await db.exec("insert into messages values (1, '2026-01-02 03:04:05.123456Z'), (2, '2026-01-02 03:04:05.123789Z')");
const text = `select json_agg(m order by id) as rows, $2::timestamp::text as wall_clock
  from messages m where created_at > $1`;
const first = await db.query("select to_json(created_at) #>> '{}' as created_at from messages where id = 1");
const cursor = first.rows[0].created_at;
console.log("cursor, of row 1:", cursor);
const parameters = [cursor, "2026-01-02 03:04:05"];

const client = new pg.Client(connection);
await client.connect();
const [other] = (await client.query(text, parameters)).rows;
await client.end();
const sql = postgres({ ...connection, max: 1 });
const [own] = await sql.unsafe(text, parameters);
await sql.end();
for (const [name, { rows, wall_clock }] of [["pg", other], ["postgres", own]]) {
  console.log(name.padEnd(8), "rows after it:", rows.map((row) => row.id).join(), "| 03:04:05 is", wall_clock);
}
await server.stop();
process.exit();
EOF

# The output seen (the clock is set to Kolkata, UTC+5:30):
cat >seen.txt <<'EOF'
cursor, of row 1: 2026-01-02T03:04:05.123456+00:00
pg       rows after it: 2 | 03:04:05 is 2026-01-02 03:04:05
postgres rows after it: 1,2 | 03:04:05 is 2026-01-01 21:34:05
EOF
TZ=Asia/Kolkata node probe.mjs | tee got.txt
diff -u seen.txt got.txt
