// `--rest-url`: /rest/v1 served by another process, which knows PostgREST's settings and tokens alone.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { createClient } from "@supabase/supabase-js";
import { join } from "node:path";
import postgres from "postgres";
import { StackError } from "../../local/errors.ts";
import { startRest } from "../../local/rest.ts";
import { type Stack, startStack } from "../../local/stack.ts";
import { copyProject, root } from "../support/project.ts";

/** What a function sees of its request and its transaction. */
const PROBE = ["stable", "volatile"].map((volatility) => `
create function public.probe_${volatility}() returns jsonb language sql ${volatility} as $$
  select jsonb_build_object(
    'role', current_user, 'claim', current_setting('request.jwt.claims')::jsonb -> 'role',
    'read_only', current_setting('transaction_read_only'), 'statement_timeout', current_setting('statement_timeout'),
    'search_path', current_setting('search_path'), 'method', current_setting('request.method'),
    'path', current_setting('request.path'), 'header', current_setting('request.headers')::jsonb -> 'x-probe')
$$;
grant execute on function public.probe_${volatility}() to anon, authenticated, service_role;`).join("\n");

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

/** As a person does: the printed command, with the stand-in in the place of the program. */
function startPostgrest(env: Record<string, string>): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--config", join(root, "deno.json"), join(root, "tests/support/postgrest.ts")],
    env,
    stdout: "null",
    stderr: "null",
  }).spawn();
}

async function end(process?: Deno.ChildProcess): Promise<void> {
  try {
    process?.kill("SIGKILL");
  } catch { /* it has ended */ }
  await process?.status;
}

/** A new table is there once PostgREST is told of it. */
async function reloads(stack: Stack, servers: ((request: Request) => Promise<Response>)[]): Promise<void> {
  const sql = postgres(stack.dbUrl, { max: 1 });
  await sql`create table public.late (id integer)`;
  const statuses = async () =>
    await Promise.all(servers.map(async (fetch) => {
      const headers = { apikey: stack.secretKey };
      const response = await fetch(new Request(`${stack.apiUrl}/rest/v1/late`, { headers }));
      await response.body?.cancel();
      return response.status;
    }));
  assertEquals(await statuses(), servers.map(() => 404));
  await sql`notify pgrst, 'reload schema'`;
  for (let i = 0; i < 200 && (await statuses()).includes(404); i++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assertEquals(await statuses(), servers.map(() => 200));
  await sql.end();
}

function clientOf(stack: Stack, key = stack.publishableKey) {
  return createClient(stack.apiUrl, key, { auth: { persistSession: false, autoRefreshToken: false } });
}

Deno.test("a --rest-url that is no address is refused at once", async () => {
  const error = await assertRejects(() => startStack({ restUrl: "localhost:3000" }), StackError);
  assertEquals(error.message, "--rest-url localhost:3000 is no http URL.");
});

Deno.test("a PostgREST behind --rest-url serves functions and /rest/v1, once it has the settings that are printed", async () => {
  const copy = await copyProject();
  await Deno.writeTextFile(join(copy, "supabase/migrations/29990101000000_probe.sql"), PROBE);
  const functions = join(copy, "supabase/functions");
  for (const { name } of Deno.readDirSync(functions)) { // one is enough
    if (!/^(_shared|conversations)$/.test(name)) await Deno.remove(join(functions, name), { recursive: true });
  }
  const restUrl = `http://127.0.0.1:${freePort()}`;

  const settings: Record<string, string> = {};
  const printed = Promise.withResolvers<void>();
  const refused = Promise.withResolvers<void>();
  const starting = startStack({
    root: copy,
    dataDir: join(copy, "data"),
    port: 0,
    dbPort: 0,
    postgresBin: Deno.env.get("POSTGRES_BIN") || undefined,
    restUrl,
    log(line) {
      const [, name, value] = /^ {2}(PGRST_\w+)='(.*)' \\$/.exec(line) ?? [];
      if (name) settings[name] = value;
      if (line.trim() === "postgrest") printed.resolve();
      if (line.startsWith(`${restUrl} answers 401`)) refused.resolve();
    },
  });
  let running: Deno.ChildProcess | undefined;
  try {
    await Promise.race([printed.promise, starting]);
    running = startPostgrest({ ...settings, PGRST_JWT_SECRET: "x".repeat(64) });
    await Promise.race([refused.promise, starting]); // not taken for ready
    await end(running);
    running = startPostgrest(settings);
    const stack = await starting;

    const client = clientOf(stack);
    const { data: { user } } = await client.auth.signUp({
      email: `${crypto.randomUUID()}@example.com`,
      password: "long enough",
    });
    const invoke = async (path: string, options: object) =>
      (await client.functions.invoke(`conversations${path}`, options)).data;
    const { id } = await invoke("", { body: { title: "far", messages: [{ role: "user", content: "one" }] } });
    await invoke(`/${id}/messages`, { body: { messages: [{ role: "assistant", content: "two" }] } });
    const { data } = await invoke(`/${id}/messages`, { method: "GET" });
    assertEquals(data.map((m: { content: string }) => m.content), ["one", "two"]);

    const own = await client.from("conversations").select("id, user_id").throwOnError();
    assertEquals(own.data, [{ id, user_id: user!.id }]);
    const asBackend = await clientOf(stack, stack.secretKey).from("conversations").select("title").eq("id", id);
    assertEquals(asBackend.data, [{ title: "far" }]);
    const other = clientOf(stack);
    await other.auth.signUp({ email: `${crypto.randomUUID()}@example.com`, password: "long enough" });
    assertEquals((await other.from("conversations").select("id").throwOnError()).data, []);
    assertEquals((await clientOf(stack).from("conversations").select("id")).error?.code, "42501");
    assertEquals((await clientOf(stack, "sb_secret_wrong").from("conversations").select("id")).status, 401);

    // What a function may ask about its request, at PostgREST and in the stack's own process.
    const inProcess = await startRest({ databaseUrl: stack.adminDbUrl, keys: stack, maxRows: 1000 });
    const token = (await client.auth.getSession()).data.session!.access_token;
    for (const fetch of [globalThis.fetch, (request: Request) => inProcess.fetch(request)]) {
      const probe = async (method: string, volatility: string, headers: Record<string, string> = {}) => {
        const request = new Request(`${stack.apiUrl}/rest/v1/rpc/probe_${volatility}`, {
          method,
          headers: { apikey: stack.publishableKey, "x-probe": "here", ...headers },
        });
        return await (await fetch(request)).json();
      };
      const ofUser = { authorization: `Bearer ${token}` };
      const common = { search_path: '"public", "public", "extensions"', header: "here" };
      assertEquals(await probe("POST", "volatile", ofUser), {
        ...common,
        ...{ role: "authenticated", claim: "authenticated", read_only: "off", statement_timeout: "8s" },
        ...{ method: "POST", path: "/rpc/probe_volatile" },
      });
      assertEquals(await probe("POST", "stable"), {
        ...common,
        ...{ role: "anon", claim: "anon", read_only: "on", statement_timeout: "3s" },
        ...{ method: "POST", path: "/rpc/probe_stable" },
      });
      assertEquals((await probe("GET", "volatile")).read_only, "on");
      assertEquals((await probe("POST", "volatile", { apikey: stack.secretKey })).role, "service_role");
    }
    await reloads(stack, [globalThis.fetch, (request) => inProcess.fetch(request)]);
    await inProcess[Symbol.asyncDispose]();

    await end(running);
    const gone = await client.from("conversations").select("id");
    assertEquals([gone.status, gone.error?.message], [503, "PostgREST does not answer"]);
    assert((await client.auth.getUser()).data.user, "Auth is the stack's own");
  } finally {
    await end(running);
    await starting.then((stack) => stack.stop(), () => {});
    await Deno.remove(copy, { recursive: true });
  }
});
