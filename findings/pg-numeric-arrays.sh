#!/usr/bin/env bash
# pg (node-postgres) 8.23.1 reads a numeric exactly, and an array of them as floating point numbers.
#
# One would swear: a type is read one way. `numeric` comes as a string so that no digit is lost, as int8 does, and an
# array of int8 is an array of strings.
# What happens: an array of numeric is an array of JavaScript numbers: 1.10 becomes 1.1, 0.12345678901234567890 loses
# its end, 9007199254740993 becomes its neighbour. `name[]`, of which the catalogues are full, is not read as an array
# at all.
# Why it matters: array_agg(cost) over the messages of a conversation gives other amounts than the rows, and adds up to
# other totals, in the very driver that one chose strings for.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent --legacy-peer-deps \
  pg@8.23.1 @electric-sql/pglite@0.5.14 @electric-sql/pglite-socket@0.2.17

cat >probe.mjs <<'EOF'
import { PGlite } from "@electric-sql/pglite";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";
import pg from "pg";

const server = new PGLiteSocketServer({ db: await PGlite.create(), host: "127.0.0.1", port: 0 });
await server.start();
const [, port] = server.getServerConn().split(":");
const connection = { host: "127.0.0.1", port: Number(port), user: "postgres", database: "postgres", ssl: false };
const client = new pg.Client(connection);
await client.connect();

const expressions = [
  "9007199254740993::int8",
  "9007199254740993::numeric",
  "1.10::numeric",
  "0.12345678901234567890::numeric",
  "'a'::name",
];
for (const expression of expressions) {
  const { rows: [{ one, many }] } = await client.query(`select ${expression} as one, array[${expression}] as many`);
  console.log(`${expression}:`, JSON.stringify(one), "in an array:", JSON.stringify(many));
}
await client.end();
await server.stop();
process.exit();
EOF

# The output seen:
cat >seen.txt <<'EOF'
9007199254740993::int8: "9007199254740993" in an array: ["9007199254740993"]
9007199254740993::numeric: "9007199254740993" in an array: [9007199254740992]
1.10::numeric: "1.10" in an array: [1.1]
0.12345678901234567890::numeric: "0.12345678901234567890" in an array: [0.12345678901234568]
'a'::name: "a" in an array: "{a}"
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
