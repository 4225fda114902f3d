// The local stack itself: what a crash leaves, and how it starts and stops.
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { createClient } from "@supabase/supabase-js";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseEnv, type StackEnv } from "../../local/env.ts";
import { startStack } from "../../local/stack.ts";
import { copyProject, root } from "../support/project.ts";

const postgresBin = Deno.env.get("POSTGRES_BIN") || undefined;
const temporary = () => join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
const start = (options: Parameters<typeof startStack>[0]) =>
  startStack({ port: 0, dbPort: 0, postgresBin, ...options });

/** npm's own exit code for it. */
const CTRL_C = 130;

/** `npm start` as a process of its own, on free ports. Resolves when it says that it is ready. */
async function npmStart(dataDir: string) {
  const child = new Deno.Command("npm", {
    args: ["start", "--silent", "--", "--port", "0", "--db-port", "0", "--data-dir", dataDir],
    cwd: root,
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

  const ours = async () => {
    const { stdout } = await new Deno.Command("ps", { args: ["-eo", "pid,args"] }).output();
    return new TextDecoder().decode(stdout).split("\n").filter((line) => line.includes(dataDir));
  };
  assert((await ours()).length >= 2, "Postgres and the stack run");
  await stack.interrupt();
  assertEquals(await stack.ended(), CTRL_C);
  assertEquals(await ours(), []);
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
