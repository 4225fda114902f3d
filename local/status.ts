/** `npm run -s status -- -o env`: where the running stack is, like `supabase status`. */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { envFile, formatEnv, parseEnv, type StackEnv } from "./env.ts";

const formats: Partial<Record<string, (env: StackEnv) => string>> = {
  env: (env) => formatEnv(env).trimEnd(),
  json: (env) => JSON.stringify(env, null, 2),
  pretty: (env) => Object.entries(env).map(([name, value]) => `${name.padEnd(16)} ${value}`).join("\n"),
};

async function readStatus(dataDir: string): Promise<StackEnv | undefined> {
  try {
    const env = parseEnv(await Deno.readTextFile(envFile(dataDir)));
    await (await fetch(env.API_URL)).body?.cancel(); // a killed stack leaves its file behind
    return env;
  } catch {
    return undefined;
  }
}

const { values } = parseArgs({
  options: {
    output: { type: "string", short: "o", default: "pretty" },
    "data-dir": { type: "string", default: join(import.meta.dirname!, "..", ".local") },
  },
});
const format = formats[values.output];
const env = await readStatus(values["data-dir"]);
if (format && env) {
  console.log(format(env));
} else {
  console.error(format ? "No stack is running: npm start" : `-o is one of ${Object.keys(formats).join(", ")}`);
  Deno.exit(1);
}
