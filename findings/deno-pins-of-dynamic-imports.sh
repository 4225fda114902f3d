#!/usr/bin/env bash
# Deno 2.9.6: an exact npm version is shared with a package that asks for a range only if the import is static.
#
# One would swear: a program that names `npm:jose@6.2.17`, and nothing else of jose, runs with jose 6.2.17; the range `^6.2.0`
# of a dependency is met by what is there already, as in a package-lock.
# What happens: it is, when the pin is imported statically. Imported dynamically, by the same main module and even in its
# first line, the range is resolved by itself to the newest release: two copies are fetched, and one of them nobody has named.
# Why it matters: `instanceof`, caches and keys of one copy mean nothing to the other, and what runs depends on the day.
# Edge functions that load a library when it is needed get this; a lock helps where it is deployed along.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent deno@2.9.6

cat >static.ts <<'EOF'
import "npm:jose@6.2.17";
import "npm:@supabase/server@1.8.1/core";
EOF
cat >dynamic.ts <<'EOF'
export const later = () => import("npm:jose@6.2.17");
import "npm:@supabase/server@1.8.1/core";
EOF

# The versions of jose that are fetched for each, counted: the newest one is another every few weeks.
for main in static dynamic; do
  export DENO_DIR="$work/cache-$main"
  node_modules/.bin/deno cache --quiet --no-config --no-lock --node-modules-dir=none "$main.ts"
  find "$DENO_DIR"/npm/*/jose -mindepth 1 -maxdepth 1 -type d -name '6.*' -printf '%f\n' | sort >"$main.txt"
  echo "$main: $(wc -l <"$main.txt"), 6.2.17 among them: $(grep -cx 6.2.17 "$main.txt")"
done | tee got.txt

# The output seen:
cat >seen.txt <<'EOF'
static: 1, 6.2.17 among them: 1
dynamic: 2, 6.2.17 among them: 1
EOF
diff -u seen.txt got.txt
