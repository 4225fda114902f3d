// Functions in processes of their own, whose CPU nothing else uses.
import { fileURLToPath } from "node:url";
import { startWorker } from "../../local/worker.ts";
import { apiUrl, publishableKey, secretKey } from "./stack.ts";

export interface MeasuredWorker extends AsyncDisposable {
  /** Below it stand the routes, the function's name included. */
  origin: string;
  /** What its JavaScript has used so far. */
  cpuMs: () => Promise<number>;
}

/** Whether the CPU of another process can be seen: on Linux. */
export const canMeasure = Deno.build.os === "linux";

/** A function as the local stack runs it, on the stack under test. */
export async function startMeasured(name: string): Promise<MeasuredWorker> {
  const end = new AbortController();
  const worker = await startWorker({
    directory: fileURLToPath(new URL(`../../supabase/functions/${name}`, import.meta.url)),
    env: {
      SUPABASE_URL: apiUrl,
      SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: publishableKey }),
      SUPABASE_SECRET_KEYS: JSON.stringify({ default: secretKey }),
      SUPABASE_JWKS: '{"keys":[]}',
    },
    log: () => {}, // of a statement that takes the database too long
    signal: end.signal,
  });
  const { pid } = worker;
  return {
    origin: worker.origin,
    // The main thread's, in nanoseconds: there JavaScript runs, and the platform counts no other of an isolate.
    cpuMs: async () => Number((await Deno.readTextFile(`/proc/${pid}/task/${pid}/schedstat`)).split(" ")[0]) / 1e6,
    async [Symbol.asyncDispose]() {
      end.abort();
      await worker.exited;
    },
  };
}
