/** What has to be true before the stack is called ready: everything answers, through the gateway. */
import { setTimeout as delay } from "node:timers/promises";
import postgres from "postgres";
import { StackError } from "./errors.ts";
import type { Functions } from "./functions.ts";
import type { Keys } from "./keys.ts";

export interface HealthOptions {
  apiUrl: string;
  dbUrl: string;
  keys: Keys;
  functions: Functions;
  signal?: AbortSignal;
}

/** The first call of each function may take longer than `/health` waits for the database, on a machine that is busy. */
const PATIENCE_MS = 15_000;
const TIMEOUT_MS = 10_000;
const RETRY_MS = 250;

/** @throws {StackError} That names each part that does not answer, with the reason. */
export async function checkHealth({ apiUrl, dbUrl, keys, functions, signal }: HealthOptions): Promise<void> {
  const get = (path: string, apikey: string) => answer(`${apiUrl}${path}`, { apikey }, signal);
  const names = [...functions.names, ...functions.failed.keys()].toSorted();
  const problems = await Promise.all([
    describe("Postgres", connect(dbUrl)),
    describe("REST", get("/rest/v1/", keys.secretKey)),
    describe("Auth", get("/auth/v1/health", keys.publishableKey)),
    ...names.map(async (name) => {
      const notStarted = functions.failed.get(name);
      const health = notStarted ? Promise.reject(new Error(notStarted)) : get(`/functions/v1/${name}/health`, "");
      return await describe(`The function ${name}`, health, () => functions.lastLines(name));
    }),
  ]);
  signal?.throwIfAborted();
  const failed = problems.filter((problem) => problem !== undefined);
  if (failed.length > 0) throw new StackError(["Not everything has started.", ...failed].join("\n\n"));
}

async function describe(
  part: string,
  working: Promise<void>,
  lastLines: () => string[] = () => [],
): Promise<string | undefined> {
  try {
    await working;
  } catch (error) {
    return [`${part}: ${(error as Error).message}`, ...lastLines()].join("\n  ");
  }
}

async function connect(dbUrl: string): Promise<void> {
  const sql = postgres(dbUrl, { max: 1, connect_timeout: TIMEOUT_MS / 1000 });
  try {
    await sql`select`;
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/** Resolves once the URL answers 2xx. */
async function answer(url: string, headers: Record<string, string>, signal?: AbortSignal): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const timeout = AbortSignal.timeout(TIMEOUT_MS);
    const response = await fetch(url, { headers, signal: signal ? AbortSignal.any([signal, timeout]) : timeout });
    const text = await response.text();
    if (response.ok) return;
    if (!text.includes('"database_unavailable"') || Date.now() > deadline) {
      throw new Error(`${new URL(url).pathname} answers ${response.status} ${text.slice(0, 500)}`);
    }
    await delay(RETRY_MS, undefined, { signal });
  }
}
