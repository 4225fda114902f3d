// The local stack itself: what a crash leaves, and how it starts and stops.
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { createClient } from "@supabase/supabase-js";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseEnv, type StackEnv } from "../../local/env.ts";
import { startStack } from "../../local/stack.ts";
import { copyProject, root, writeFunction } from "../support/project.ts";

const postgresBin = Deno.env.get("POSTGRES_BIN") || undefined;
const temporary = () => join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
const start = (options: Parameters<typeof startStack>[0]) =>
  startStack({ port: 0, dbPort: 0, postgresBin, ...options });

/** npm's own exit code for it. */
const CTRL_C = 130;

async function eventually(condition: () => Promise<boolean>): Promise<void> {
  while (!await condition()) await new Promise((resolve) => setTimeout(resolve, 100));
}

async function processesOf(dataDir: string): Promise<string[]> {
  const { stdout } = await new Deno.Command("ps", { args: ["-eo", "pid,args"] }).output();
  return new TextDecoder().decode(stdout).split("\n").filter((line) => line.includes(dataDir));
}

/** `npm start` as a process of its own, on free ports. Resolves when it says that it is ready. */
async function npmStart(dataDir: string, project = root) {
  const child = new Deno.Command("npm", {
    args: ["start", "--silent", "--", "--port", "0", "--db-port", "0", "--data-dir", dataDir],
    cwd: project,
    stdout: "piped",
    stderr: "null",
    env: { POSTGRES_BIN: postgresBin ?? "" },
    detached: true, // a process group of its own, as a shell gives it
  }).spawn();
  let output = "";
  const ready = Promise.withResolvers<void>();
  const drained = (async () => {
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      output += text;
      if (output.includes("Remember me.")) ready.resolve();
    }
    ready.reject(new Error(`npm start ended early:\n${output}`));
  })();
  await ready.promise;
  return {
    env: parseEnv(await Deno.readTextFile(join(dataDir, "stack.env"))),
    output: () => output,
    /** Ctrl-C: the terminal signals the whole group. */
    interrupt: () => new Deno.Command("kill", { args: ["-INT", "--", `-${child.pid}`] }).output(),
    ended: async () => {
      await drained;
      return (await child.status).code;
    },
  };
}

async function signUp({ API_URL, PUBLISHABLE_KEY }: StackEnv): Promise<string> {
  const client = createClient(API_URL, PUBLISHABLE_KEY, { auth: { persistSession: false, autoRefreshToken: false } });
  const { data, error } = await client.auth.signUp({
    email: `${crypto.randomUUID()}@example.com`,
    password: "long enough",
  });
  if (error) throw error;
  return data.session!.access_token;
}

async function call({ API_URL }: StackEnv, token: string, method: string, path: string, body?: object) {
  const response = await fetch(`${API_URL}/functions/v1/conversations${path}`, {
    method,
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

Deno.test("kill -9 of Postgres amid appends, npm start: what was answered 201 is there, nothing is half there", async () => {
  const dataDir = temporary();
  const stack = await npmStart(dataDir);
  const token = await signUp(stack.env);
  const { body: conversation } = await call(stack.env, token, "POST", "", {});

  const acknowledged: string[] = [];
  let refused = 0;
  const writers = Array.from({ length: 8 }, async (_, writer) => {
    for (let turn = 0;; turn++) {
      const batch = `${writer}/${turn}`;
      const messages = ["ask", "call", "answer"].map((part) => ({ role: "user", content: `${batch}/${part}` }));
      // Once the stack has noticed and stopped, the connection is refused.
      const answer = await call(stack.env, token, "POST", `/${conversation.id}/messages`, { messages }).catch(() =>
        null
      );
      if (answer?.status === 201) acknowledged.push(batch);
      else if (answer) assertEquals([answer.status, answer.body.code], [503, "database_unavailable"], batch);
      if (answer?.status !== 201) return refused++;
    }
  });
  while (acknowledged.length < 60 && refused === 0) await new Promise((resolve) => setTimeout(resolve, 10));
  assertEquals(refused, 0);
  const [pid] = (await Deno.readTextFile(join(dataDir, "db/postmaster.pid"))).split("\n");
  Deno.kill(Number(pid), "SIGKILL");
  await Promise.all(writers);
  assertEquals([refused, await stack.ended()], [8, 1]);

  const again = await npmStart(dataDir);
  const stored: { content: string; sequence_order: number }[] = [];
  for (let more = true; more;) {
    const path = `/${conversation.id}/messages?limit=1000&after=${stored.length}`;
    const { status, body } = await call(again.env, token, "GET", path);
    assertEquals(status, 200, "the token and the data outlive the crash");
    stored.push(...body.data);
    more = body.has_more;
  }
  await again.interrupt();
  assertEquals(await again.ended(), CTRL_C);
  await Deno.remove(dataDir, { recursive: true });

  assertEquals(stored.map((m) => m.sequence_order), stored.map((_, i) => i + 1));
  const batches = Map.groupBy(stored, (m) => m.content.slice(0, m.content.lastIndexOf("/")));
  for (const [batch, rows] of batches) {
    assertEquals(rows.map((m) => m.content), ["ask", "call", "answer"].map((part) => `${batch}/${part}`));
  }
  assertEquals(acknowledged.filter((batch) => !batches.has(batch)), []);
});

Deno.test("npm start prints a first call that works when pasted, and Ctrl-C leaves no process behind", async () => {
  const dataDir = temporary();
  const stack = await npmStart(dataDir);
  const output = stack.output();
  const firstCall = output.slice(output.indexOf("TOKEN="), output.lastIndexOf("}'") + 2);
  const pasted = await new Deno.Command("bash", { args: ["-c", firstCall], stderr: "null" }).output();
  assertEquals(JSON.parse(new TextDecoder().decode(pasted.stdout)).title, "First contact");

  const status = await new Deno.Command("npm", {
    args: ["run", "--silent", "status", "--", "-o", "env", "--data-dir", dataDir],
    cwd: root,
  }).output();
  assertEquals(parseEnv(new TextDecoder().decode(status.stdout)), stack.env);

  assert((await processesOf(dataDir)).length >= 2, "Postgres and the stack run");
  await stack.interrupt();
  assertEquals(await stack.ended(), CTRL_C);
  assertEquals(await processesOf(dataDir), []);
  await assertRejects(() => fetch(stack.env.API_URL));
  await Deno.remove(dataDir, { recursive: true });
});

Deno.test("a port in use is an error that names the port and the flag", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const dataDir = temporary();
  try {
    await assertRejects(() => start({ dataDir, port }), Error, `${port}`);
    const error = await assertRejects(() => start({ dataDir, dbPort: port }), Error, `${port}`);
    assertMatch(error.message, /--db-port/);
  } finally {
    listener.close();
    await Deno.remove(dataDir, { recursive: true });
  }
});

Deno.test("a broken migration is one clear error, and a changed function is served without a restart", async () => {
  const copy = await copyProject();
  const broken = join(copy, "supabase/migrations/29990101000000_broken.sql");
  try {
    await Deno.writeTextFile(broken, "create table public.fine (id integer);\nselect * from nowhere;\n");
    const error = await assertRejects(() => start({ root: copy, dataDir: join(copy, "data") }), Error);
    assertMatch(error.message, /29990101000000_broken\.sql[\s\S]*"nowhere" does not exist/);
    await Deno.remove(broken);

    const stack = await start({ root: copy, dataDir: join(copy, "data") });
    try {
      const health = async () => {
        const response = await fetch(`${stack.apiUrl}/functions/v1/conversations/health`);
        return { status: response.status, text: await response.text() };
      };
      assertEquals((await health()).status, 200);
      const app = join(copy, "supabase/functions/_shared/app.ts");
      const source = await Deno.readTextFile(app);
      await Deno.writeTextFile(app, "this is not TypeScript");
      await new Promise((resolve) => setTimeout(resolve, 1500));
      assertEquals((await health()).status, 200, "the last code that ran keeps running");
      await Deno.writeTextFile(app, source.replace('status: "ok"', 'status: "changed"'));
      for (let i = 0; i < 100 && !(await health()).text.includes("changed"); i++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      assertEquals(JSON.parse((await health()).text).status, "changed");
    } finally {
      await stack.stop();
    }
  } finally {
    await Deno.remove(copy, { recursive: true });
  }
});

Deno.test("npm start names what does not work with the reason, exits 1 and leaves nothing running", async () => {
  const copy = await copyProject();
  const dataDir = join(copy, "data");
  try {
    await writeFunction(copy, "users", 'throw new Error("no such setting");');
    const unwell = 'console.error("what broke"); return new Response("out of order", { status: 500 });';
    await writeFunction(copy, "retention", `export default { fetch() { ${unwell} } };`);
    const { code, stdout, stderr } = await new Deno.Command("npm", {
      args: ["start", "--silent", "--", "--port", "0", "--db-port", "0", "--data-dir", dataDir],
      cwd: copy,
      env: { POSTGRES_BIN: postgresBin ?? "", NO_COLOR: "1" },
    }).output();
    assertEquals(code, 1);
    assert(!new TextDecoder().decode(stdout).includes("Threadbase is ready"));
    const [, reasons] = new TextDecoder().decode(stderr).split("Not everything has started.");
    assertMatch(reasons, /The function users: exited with code 1 before it listened\n.*no such setting/);
    assertMatch(reasons, /The function retention: \S+ answers 500 out of order\n +what broke/);
    assert(!/conversations|REST|Auth|Postgres/.test(reasons), reasons);
    assertEquals(await processesOf(dataDir), []);
  } finally {
    await Deno.remove(copy, { recursive: true });
  }
});

Deno.test("functions get supabase/functions/.env, a broken one added later is 503, and / shows where everything is", async () => {
  const copy = await copyProject();
  const secrets = join(copy, "supabase/functions/.env");
  const echo = 'Response.json({ colour: Deno.env.get("COLOUR"), url: Deno.env.get("SUPABASE_URL") })';
  await writeFunction(copy, "echo", `export default { fetch: () => ${echo} };`);
  await Deno.writeTextFile(secrets, 'COLOUR="deep blue" # comment\nSUPABASE_URL=http://elsewhere\n');
  const lines: string[] = [];
  try {
    const stack = await start({ root: copy, dataDir: join(copy, "data"), log: (line) => lines.push(line) });
    const get = async (path: string, headers: Record<string, string> = {}) => {
      const response = await fetch(new URL(path, stack.apiUrl), { headers });
      return { status: response.status, text: await response.text() };
    };
    try {
      assertEquals(JSON.parse((await get("/functions/v1/echo")).text), { colour: "deep blue", url: stack.apiUrl });
      assert(
        lines.some((line) => /given COLOUR from/.test(line)) && lines.some((line) => /skip.* SUPABASE_URL/.test(line)),
      );
      assert(!/deep blue|elsewhere/.test(lines.join("\n")), "values are not logged");
      await Deno.writeTextFile(secrets, "COLOUR=green\n");
      await eventually(async () => JSON.parse((await get("/functions/v1/echo")).text).colour === "green");

      await writeFunction(copy, "added", "this is not TypeScript");
      await eventually(async () => (await get("/functions/v1/added")).status === 503);
      assertEquals(JSON.parse((await get("/functions/v1/added")).text).code, "BOOT_ERROR");

      const json = await get("/");
      const { functions, docs, publishable_key } = JSON.parse(json.text);
      assert(functions.length >= 8 && docs.length >= 8);
      assertEquals(publishable_key, stack.publishableKey);
      const html = await get("/", { accept: "text/html,application/xhtml+xml,*/*;q=0.8" });
      assert(!(json.text + html.text).includes(stack.secretKey));
      const links = [...html.text.matchAll(/href="([^"]+)"/g)].map(([, href]) => href);
      assertEquals(
        links.map((href) => new URL(href, stack.apiUrl).href).toSorted(),
        [...functions.flatMap(({ health, openapi }: Record<string, string>) => [health, openapi]), ...docs].toSorted(),
      );
      for (const href of links) assertEquals((await get(href)).status, 200, href);
      assertEquals((await get("/docs/..%2fpackage.json")).status, 404);
    } finally {
      await stack.stop();
    }
  } finally {
    await Deno.remove(copy, { recursive: true });
  }
});

Deno.test("--host: the API listens there and says so, Postgres does not", async () => {
  const dataDir = temporary();
  const stack = await start({ dataDir, host: "localhost" });
  try {
    const { hostname, port } = new URL(stack.apiUrl);
    assertEquals([hostname, new URL(stack.dbUrl).hostname], ["localhost", "127.0.0.1"]);
    assertEquals(await (await fetch(`http://localhost:${port}/functions/v1/users/health`)).json(), {
      status: "ok",
      database: "ok",
    });
    await assertRejects(() => start({ dataDir: `${dataDir}-2`, host: "203.0.113.7" }), Error, "--host");
  } finally {
    await stack.stop();
    await Deno.remove(dataDir, { recursive: true });
    await Deno.remove(`${dataDir}-2`, { recursive: true });
  }
});
