/** Clients against a live stack while it suffers, and what its history shows. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type postgres from "postgres";
import { embeddedBinaries, unprivilegedAccount } from "../../local/engine.ts";
import { surviveLostConnections } from "../../local/rest.ts";
import { Client, type Owner, RETAINED_AT, type World } from "./clients.ts";
import { check, type Operation, type Violation } from "./history.ts";
import { Service, smallDisk, withClock } from "./service.ts";

export interface SoakOptions {
  seconds: number;
  directory: string;
  /** Where initdb and postgres are. Default: the embedded ones. */
  postgresBin?: string;
  log: (line: string) => void;
}

export interface Report {
  history: Operation[];
  /** How often each fault happened. */
  faults: Record<string, number>;
  /** Faults that cannot be had on this machine. */
  skipped: string[];
  violations: Violation[];
  /** What the stack printed. */
  output: string;
}

const root = fileURLToPath(new URL("../..", import.meta.url));
const OWNERS = 4;
const CLIENTS_EACH = 3;
/** From the end of one fault to the next, on average. */
const PAUSE_MS = 2_000;
const PROGRESS_MS = 30_000;

export async function soak({ seconds, directory, log, ...options }: SoakOptions): Promise<Report> {
  using cleanup = new DisposableStack();
  cleanup.defer(surviveLostConnections());
  await Deno.mkdir(directory, { recursive: true, mode: 0o755 });
  const postgresBin = options.postgresBin ?? await embeddedBinaries(root, directory, await unprivilegedAccount());
  const disk = join(directory, "disk");
  await using _disk = await smallDisk(disk);
  const clock = await withClock(postgresBin, join(directory, "postgres"));
  await using service = await Service.start(join(disk, "data"), clock ?? postgresBin);
  const { faults, skipped } = await service.faults();
  const counts: Record<string, number> = Object.fromEntries(faults.map(({ name }) => [name, 0]));

  const history: Operation[] = [];
  const world: World = {
    url: () => service.url,
    retain: () => service.sql((sql) => runRetention(sql)),
    history,
    random: Math.random,
  };
  const owners = await Promise.all(Array.from({ length: OWNERS }, (_, i) => signUp(service, i)));
  const clients = owners.flatMap((owner) =>
    Array.from({ length: CLIENTS_EACH }, (_, i) => new Client(`${i + 1}`, owner, world))
  );

  const end = Date.now() + seconds * 1000;
  const progress = setInterval(() => log(`${history.length} operations, ${service.restarts} restarts`), PROGRESS_MS);
  let over = false;
  const work = clients.map(async (client) => {
    while (!over) {
      await client.step();
      if (history.at(-1)?.status === 0) await delay(50); // nobody listens
    }
  });
  // Each once, however slow the machine is, in random order; and then any.
  const queue = faults.toSorted(() => Math.random() - 0.5);
  while (queue.length > 0 || Date.now() < end - PAUSE_MS) {
    await delay(PAUSE_MS * (0.5 + Math.random()));
    const fault = queue.shift() ?? faults[Math.floor(Math.random() * faults.length)];
    await fault.run();
    counts[fault.name]++;
  }
  over = true;
  await Promise.all(work);
  clearInterval(progress);
  await service.up();
  for (const owner of owners) {
    const last = new Client("last", owner, world);
    await last.tour();
    await last.lookAtAll();
  }
  return { history, faults: counts, skipped, violations: check(history), output: service.output };
}

async function signUp({ env }: Service, i: number): Promise<Owner> {
  const response = await fetch(`${env.API_URL}/auth/v1/signup`, {
    method: "POST",
    headers: { apikey: env.PUBLISHABLE_KEY, "content-type": "application/json" },
    body: JSON.stringify({ email: `${crypto.randomUUID()}@example.com`, password: crypto.randomUUID() }),
  });
  const { access_token } = await response.json();
  return {
    name: `owner${i + 1}`,
    headers: { apikey: env.PUBLISHABLE_KEY, authorization: `Bearer ${access_token}` },
    things: [],
    erases: i === 0,
  };
}

/** The job's own command, at another time. */
async function runRetention(sql: postgres.Sql): Promise<void> {
  const [{ command }] = await sql`select command from private.scheduled_jobs where name = 'threadbase-retention'`;
  const [{ before }] = await sql`select coalesce(max(id), 0) as before from private.retention_runs`;
  await sql.unsafe(command.replace("retention_step()", `retention_step('${RETAINED_AT}')`)).simple();
  // One that was killed a moment ago counts as running for a minute, and keeps the next from beginning.
  const finished = await sql`select from private.retention_runs where id > ${before} and complete`;
  if (finished.length === 0) throw new Error("no run of its own");
}

export function summary({ history, faults, skipped, violations }: Report): string {
  const count = (which: (o: Operation) => boolean) => history.filter(which).length;
  return [
    `Operations: ${history.length} (acknowledged ${count(({ answer }) => answer !== undefined)}, ` +
    `refused ${count(({ status }) => status >= 400 && status < 500)}, ` +
    `not known ${count(({ status, answer }) => answer === undefined && (status < 400 || status >= 500))})`,
    `Faults: ${Object.entries(faults).map(([name, n]) => `${n} × ${name}`).join(", ")}`,
    ...skipped.map((reason) => `Skipped: ${reason}`),
    `Violations: ${violations.length}`,
    ...violations.slice(0, 20).map(({ rule, what }) => `  ${rule}: ${what}`),
  ].join("\n");
}
