#!/usr/bin/env bash
# best-effort-json-parser 1.5.1 misreads numbers with an exponent, but only while the document is incomplete.
#
# One would swear: the parse of a prefix shows the values that have arrived, so a field that is complete keeps its
# value.
# What happens: complete documents go to JSON.parse; prefixes go to a parser whose numbers end at the "e". The rest
# becomes a key: the number is wrong by its whole exponent and the keys that follow are mangled. With the closing brace
# everything jumps to the right value. A prefix that ends inside a \u escape throws; partial-json takes both.
# Why it matters: this parser exists for tool arguments that stream in. A stream that stops, or a row saved while it
# runs, keeps an amount that the model never wrote, under keys that no schema has.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent best-effort-json-parser@1.5.1 partial-json@0.1.7

cat >probe.mjs <<'EOF'
import * as bestEffort from "best-effort-json-parser";
import { parse as partialJson } from "partial-json";

const text = '{"amount":-1.25e6,"paid":true,"city":"Saint-\\u00c9tienne"}';
const show = (parse, prefix) => {
  try {
    return JSON.stringify(parse(prefix));
  } catch (error) {
    return `throws ${error.message}`;
  }
};
for (const length of [18, 30, 48, text.length]) {
  const prefix = text.slice(0, length);
  console.log(prefix);
  console.log("  best-effort ", show(bestEffort.parse, prefix));
  console.log("  partial-json", show(partialJson, prefix));
}
EOF

# The output seen:
cat >seen.txt <<'EOF'
{"amount":-1.25e6,
  best-effort  {"amount":-1.25}
  partial-json {"amount":-1250000}
{"amount":-1.25e6,"paid":true,
  best-effort  {"amount":-1.25,"e6,\"paid\"":true}
  partial-json {"amount":-1250000,"paid":true}
{"amount":-1.25e6,"paid":true,"city":"Saint-\u00
  best-effort  throws Bad Unicode escape in JSON at position 11
  partial-json {"amount":-1250000,"paid":true,"city":"Saint-"}
{"amount":-1.25e6,"paid":true,"city":"Saint-\u00c9tienne"}
  best-effort  {"amount":-1250000,"paid":true,"city":"Saint-Étienne"}
  partial-json {"amount":-1250000,"paid":true,"city":"Saint-Étienne"}
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
