#!/usr/bin/env bash
# supabase (the CLI) 3.1.0: one `concurrently` in a migration file takes the transaction from the whole file.
#
# One would swear: `db push` runs a file in one transaction (it does), and a statement that cannot run in one is
# refused, as Postgres refuses it.
# What happens: the CLI sees the statement and runs the file without a transaction, silently. If a later statement
# fails, the earlier ones stay, and the file is not recorded. Mended and pushed again, it fails at its first statement,
# which is done already.
# Why it matters: the index that must not lock a table of messages is the reason to write `concurrently`; added to a
# file that also moves data, it leaves a production database halfway, where the same file without that word changes
# nothing.
set -euo pipefail
work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent --legacy-peer-deps \
  supabase@3.1.0 @electric-sql/pglite@0.5.14 @electric-sql/pglite-socket@0.2.17
export HOME="$work" DO_NOT_TRACK=1

cat >database.mjs <<'EOF'
import { PGlite } from "@electric-sql/pglite";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";
import { writeFileSync } from "node:fs";

const db = await PGlite.create();
const server = new PGLiteSocketServer({ db, host: "127.0.0.1", port: 0, maxConnections: 4 });
await server.start();
writeFileSync("address", server.getServerConn());
process.on("SIGUSR2", async () => {
  const { rows } = await db.query(`select to_regclass('notes') is not null as table_notes,
    (select count(*)::int from supabase_migrations.schema_migrations) as recorded`);
  writeFileSync("state", `  left behind: ${JSON.stringify(rows[0])}\n`);
});
EOF
wait_for() { until [ -s "$1" ]; do sleep 0.1; done; }
push() {
  node_modules/.bin/supabase db push --yes --remote="postgresql://postgres@$(cat address)/postgres?sslmode=disable" \
    >log 2>&1 || true
  sed -n "s/^ERROR/  $1: &/p" log
}
node database.mjs & database=$!
wait_for address
file=supabase/migrations/20260101000000_notes.sql
mkdir -p supabase/migrations
echo 'project_id = "probe"' >supabase/config.toml
for index in "create index" "create index concurrently"; do
  echo "$index"
  printf '%s;\n' "create table notes (id int)" "$index on notes (id)" "insert into note values (1)" >$file
  push "push"
  rm -f state
  kill -USR2 $database
  wait_for state
  cat state
done >got.txt
sed -i 's/into note /into notes /' $file
push "mended, pushed again" >>got.txt

# The output seen:
cat >seen.txt <<'EOF'
create index
  push: ERROR: relation "note" does not exist (SQLSTATE 42P01)
  left behind: {"table_notes":false,"recorded":0}
create index concurrently
  push: ERROR: relation "note" does not exist (SQLSTATE 42P01)
  left behind: {"table_notes":true,"recorded":0}
  mended, pushed again: ERROR: relation "notes" already exists (SQLSTATE 42P07)
EOF
cat got.txt
diff -u seen.txt got.txt
