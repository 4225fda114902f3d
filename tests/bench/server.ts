/** Processes that serve HTTP on this machine, each like an edge function in the local stack (local/function.ts). */
import { SignJWT } from "jose";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { resolution } from "../../local/worker.ts";
import type { Stack } from "./stack.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** With the imports of a config and its lock, or of a function's own deno.json as in the local stack. */
export const denoOptions = (config = "tests/bench/deno.json") =>
  config.startsWith("supabase/")
    ? resolution(join(root, dirname(config)))
    : ["--node-modules-dir=none", "--config", config];

export interface Server extends AsyncDisposable {
  origin: string;
}

export interface ServerOptions {
  /** The module whose default export has a `fetch`, as a path from the root. */
  entry: string;
  config?: string;
  env: Record<string, string>;
}

/** Resolves when it listens. */
export async function startServer({ entry, config, env }: ServerOptions): Promise<Server> {
  const announcement = crypto.randomUUID();
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--quiet", "--unstable-no-legacy-abort", ...denoOptions(config)],
      ...["local/function.ts", new URL(`../../${entry}`, import.meta.url).href, announcement],
    ],
    cwd: root,
    env,
    stdin: "piped", // held open: the process ends with it
    stdout: "piped",
  }).spawn();
  let output = "";
  const listening = Promise.withResolvers<string>();
  (async () => {
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
      output += chunk;
      const port = output.match(new RegExp(`${announcement} (\\d+)\\n`))?.[1];
      if (port) listening.resolve(`http://127.0.0.1:${port}`);
    }
    listening.reject(new Error(`${entry} ended before it listened`));
  })();
  return {
    origin: await listening.promise,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.status;
    },
  };
}

/** What `deno` prints for these arguments. */
export async function deno(args: string[], env: Record<string, string> = {}): Promise<string> {
  const command = new Deno.Command(Deno.execPath(), {
    args,
    cwd: root,
    env: { ...env, NO_COLOR: "1" },
    stderr: "inherit",
  });
  const { success, stdout } = await command.output();
  if (!success) throw new Error(`deno ${args.join(" ")} failed`);
  return new TextDecoder().decode(stdout);
}

/** An access token as Auth gives the user, with the key id that functions look for. No two are the same. */
export async function signToken({ jwtSecret, userId }: Stack): Promise<string> {
  return await new SignJWT({ role: "authenticated" })
    .setProtectedHeader({ alg: "HS256", typ: "JWT", kid: "local" })
    .setSubject(userId)
    .setJti(crypto.randomUUID())
    .setAudience("authenticated")
    .setIssuedAt()
    .setExpirationTime("2h")
    .sign(new TextEncoder().encode(jwtSecret));
}
