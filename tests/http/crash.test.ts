// A function that dies amid appends, on a stack of its own.
import { assert, assertEquals } from "@std/assert";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Stack, startStack } from "../../local/stack.ts";

const WRITERS = 16;
const EVENTS = 50_000;
const BATCH = 125;
/** Each writer sends as many to the session that all share as to its own. */
const BATCHES = (2 * EVENTS) / WRITERS / BATCH;

async function killFunction(name: string): Promise<void> {
  const { stdout } = await new Deno.Command("ps", { args: ["-eo", "pid,ppid,args"] }).output();
  const ours = new TextDecoder().decode(stdout).split("\n").map((line) => line.trim().split(/\s+/)).filter(
    ([, parent, ...args]) => Number(parent) === Deno.pid && args.join(" ").includes(`/${name}/index.ts`),
  );
  assertEquals(ours.length, 1, "one process serves the function");
  Deno.kill(Number(ours[0][0]), "SIGKILL");
}

async function call({ apiUrl, secretKey }: Stack, path: string, body?: object, key?: string) {
  const response = await fetch(`${apiUrl}/functions/v1/sessions${path}`, {
    method: body ? "POST" : "GET",
    headers: {
      apikey: secretKey,
      "x-user-id": "caller",
      "content-type": "application/json",
      ...(key && { "idempotency-key": key }),
    },
    body: body && JSON.stringify(body),
  });
  return { status: response.status, body: await response.json() };
}

Deno.test("16 writers, 100,000 events, kill -9 of the function: every event once, in order, no gap", async () => {
  const dataDir = join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
  const stack = await startStack({
    port: 0,
    dbPort: 0,
    dataDir,
    postgresBin: Deno.env.get("POSTGRES_BIN") || undefined,
  });
  try {
    const shared = crypto.randomUUID();
    const own = Array.from({ length: WRITERS }, () => crypto.randomUUID());
    for (const id of [shared, ...own]) assertEquals((await call(stack, "", { id })).status, 201);

    let acknowledged = 0;
    let failed = 0;
    const writers = own.map(async (id, writer) => {
      for (let batch = 0; batch < BATCHES; batch++) {
        const events = Array.from({ length: BATCH }, (_, i) => ({
          event_type: "ai_chunk",
          content: { writer, n: Math.floor(batch / 2) * BATCH + i },
        }));
        const path = `/${batch % 2 ? id : shared}/events`;
        // A client that does not know whether its request arrived repeats it with its key.
        for (;;) {
          const { status } = await call(stack, path, { events }, `${writer}-${batch}`);
          if (status === 201) break;
          assert(status >= 500, `answered ${status}`);
          failed++;
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
        acknowledged += BATCH;
      }
    });
    for (const part of [0.2, 0.4, 0.6, 0.8]) {
      while (acknowledged < part * 2 * EVENTS) await new Promise((resolve) => setTimeout(resolve, 10));
      await killFunction("sessions");
    }
    await Promise.all(writers);
    assert(failed > 0, "the kill was noticed");

    let total = 0;
    for (const id of [shared, ...own]) {
      const seen = new Map<number, number>();
      let sequence = 0;
      for (let after: string | null = "0"; after !== null;) {
        const page: {
          data: { sequence: number; content: { writer: number; n: number } }[];
          next_cursor: string | null;
        } = (await call(stack, `/${id}/events?limit=1000&after=${after}`)).body;
        for (const { sequence: number, content: { writer, n } } of page.data) {
          assertEquals(number, ++sequence);
          assertEquals(n, seen.get(writer) ?? 0, "a writer's events are in its order, each once");
          seen.set(writer, n + 1);
        }
        after = page.next_cursor;
      }
      total += sequence;
      assertEquals([...seen.values()], Array(seen.size).fill(EVENTS / WRITERS));
      assertEquals(seen.size, id === shared ? WRITERS : 1);
    }
    assertEquals([total, acknowledged], [2 * EVENTS, 2 * EVENTS]);
  } finally {
    await stack.stop();
    await Deno.remove(dataDir, { recursive: true });
  }
});
