/**
 * Stands in for a PostgREST of its own: a process that takes PostgREST's settings from its environment, serves `/`, and
 * knows tokens but no API keys.
 */
import postgres from "postgres";
import { startRest } from "../../local/rest.ts";

const { PGRST_DB_URI, PGRST_DB_MAX_ROWS, PGRST_JWT_SECRET, PGRST_SERVER_PORT } = Deno.env.toObject();

// PostgREST logs in as it is told and takes the role of each token. @supabase/lite also reads the catalogue and auth.users,
// where that login may not.
const authenticator = postgres(PGRST_DB_URI, { max: 1 });
for (const role of ["anon", "authenticated", "service_role"]) await authenticator`set role ${authenticator(role)}`;
await authenticator.end();
const admin = new URL(PGRST_DB_URI);
admin.username = "supabase_admin";

const [publishableKey, secretKey] = ["anyone", "a token"];
const rest = await startRest({
  databaseUrl: admin.href,
  keys: { publishableKey, secretKey, jwtSecret: PGRST_JWT_SECRET },
  maxRows: Number(PGRST_DB_MAX_ROWS),
});

Deno.serve({ hostname: "127.0.0.1", port: Number(PGRST_SERVER_PORT), onListen: () => {} }, async (request) => {
  const { pathname, search } = new URL(request.url);
  const { method, body } = request;
  const headers = new Headers(request.headers);
  if (/^Bearer sb_/i.test(headers.get("authorization") ?? "")) {
    return Response.json({ code: "PGRST301", message: "Expected 3 parts in JWT; got 1" }, { status: 401 });
  }
  // `/` is for the secret key alone there; PostgREST has it for everyone.
  headers.set("apikey", pathname === "/" ? secretKey : publishableKey);
  return await rest.fetch(new Request(`http://local/rest/v1${pathname}${search}`, { method, headers, body }));
});
