#!/usr/bin/env bash
# @supabase/auth-js 2.119.0: `auth.admin.listUsers()` keeps one digit of the numbers of the next and the last page.
#
# One would swear: `nextPage` is the page to ask for next, and is null on the last one.
# What happens: both numbers are read from the Link header, and only their first digit. Page 10 is told as 1, so a loop
# over `nextPage` begins again after the ninth page, and does so for ever.
# Why it matters: an export, an erasure or a migration of all users that follows `nextPage` visits the first 450 (at 50 a
# page) again and again, and never the others. Count pages up to `total`, or until a page is not full.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --prefix "$work" --no-audit --no-fund --silent @supabase/auth-js@2.119.0

cat >probe.mjs <<'EOF'
import { createServer } from "node:http";
import { GoTrueAdminApi } from "@supabase/auth-js";

// 600 users, 50 a page, with the headers that Supabase Auth sends.
const server = createServer((request, response) => {
  const page = Number(new URL(request.url, "http://localhost").searchParams.get("page"));
  const link = (number, rel) => `</admin/users?page=${number}&per_page=50>; rel="${rel}"`;
  response.writeHead(200, {
    "content-type": "application/json",
    "x-total-count": "600",
    link: [...(page < 12 ? [link(page + 1, "next")] : []), link(12, "last")].join(", "),
  });
  response.end('{"users":[],"aud":"authenticated"}');
}).listen(0, "127.0.0.1");
await new Promise((resolve) => server.once("listening", resolve));

const admin = new GoTrueAdminApi({ url: `http://127.0.0.1:${server.address().port}`, headers: {} });
const visited = [];
for (let page = 1; page && visited.length < 12;) {
  visited.push(page);
  const { data } = await admin.listUsers({ page, perPage: 50 });
  if (visited.length === 1) console.log(`total ${data.total}, lastPage ${data.lastPage}`);
  page = data.nextPage;
}
console.log(`visited ${visited.join(" ")}`);
server.close();
server.closeAllConnections();
EOF

# The output seen:
cat >seen.txt <<'EOF'
total 600, lastPage 1
visited 1 2 3 4 5 6 7 8 9 1 2 3
EOF
node probe.mjs | tee got.txt
diff -u seen.txt got.txt
