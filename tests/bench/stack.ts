/** Where the stack of this run is: run.ts starts it, and passes this on as JSON in BENCH_STACK. */
export interface Stack {
  /** As the owner of the tables, whom no policy holds. */
  dbUrl: string;
  /** As a superuser. */
  adminDbUrl: string;
  publishableKey: string;
  secretKey: string;
  jwtSecret: string;
  /** Of a PostgREST instead of the stand-in. */
  restUrl?: string;
  postgresVersion: string;
  /** What the edge runtime gives every function. */
  functionEnvironment: Record<string, string>;
  /** The user whose conversations are measured. */
  userId: string;
}

/** For the processes of a run. */
export function readStack(): Stack {
  return JSON.parse(Deno.env.get("BENCH_STACK")!);
}
