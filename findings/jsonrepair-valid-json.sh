#!/usr/bin/env bash
# jsonrepair 3.15.0 changes JSON that needs no repair.
#
# One would swear: a repairer leaves a valid document alone (3.14.0 does).
# What happens: when the last string of an object holds an opening brace that the same string does not close, 3.15.0
# takes the brace for structure. It throws on `{"line":"if (ok) {"}`; in an array of objects it cuts the string and
# invents an element, without an error.
# Why it matters: jsonrepair is what many put in front of tool arguments and of streamed chunks before storing them.
# Code is where unbalanced braces live: one line of an edit tool's call, one delta of an answer.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent old@npm:jsonrepair@3.14.0 new@npm:jsonrepair@3.15.0

cat >probe.mjs <<'EOF'
import { jsonrepair as repair314 } from "old";
import { jsonrepair as repair315 } from "new";

const documents = [
  '{"line":"if (ok) {"}',
  '{"line":"if (ok) {","path":"a.js"}',
  '[{"delta":"const o = {a: 1"},{"delta":"};"}]',
];
for (const text of documents) {
  JSON.parse(text); // valid, or this throws
  console.log(text);
  for (const [version, repair] of [["3.14.0", repair314], ["3.15.0", repair315]]) {
    try {
      const repaired = repair(text);
      console.log(`  ${version}`, repaired === text ? "unchanged" : repaired);
    } catch (error) {
      console.log(`  ${version} throws`, error.message);
    }
  }
}
EOF

# The output seen:
cat >seen.txt <<'EOF'
{"line":"if (ok) {"}
  3.14.0 unchanged
  3.15.0 throws Unexpected character "{" at position 17
{"line":"if (ok) {","path":"a.js"}
  3.14.0 unchanged
  3.15.0 unchanged
[{"delta":"const o = {a: 1"},{"delta":"};"}]
  3.14.0 unchanged
  3.15.0 [{"delta":"const o ="}, {"a": "1"},{"delta":"};"}]
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
