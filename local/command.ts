/** What every command of package.json shares: how it reads its arguments, finds the running stack, and ends. */
import { join } from "node:path";
import { parseArgs, type ParseArgsConfig } from "node:util";
import { envFile, parseEnv, type StackEnv } from "./env.ts";
import { StackError } from "./errors.ts";

type Options = NonNullable<ParseArgsConfig["options"]>;
type Arguments<T extends Options> = ReturnType<typeof parseArgs<{ options: T; allowPositionals: true }>>;

/** For the commands that use a running stack. */
export const DATA_DIR_HELP = `  --data-dir DIR   of the stack, as npm start was given it (default: .local)`;
export const dataDirOption = { "data-dir": { type: "string" } } as const;

/**
 * The arguments of this process. `--help` prints the help and ends it.
 *
 * @param positionals How many arguments without a name the command takes, at least and at most.
 * @throws {StackError} For an argument that the command does not know or that has no value, with the help.
 */
export function readArguments<T extends Options>(
  help: string,
  options: T,
  [min, max]: [number, number] = [0, 0],
): Arguments<T> {
  let parsed;
  try {
    parsed = parseArgs({
      args: Deno.args,
      options: { ...options, help: { type: "boolean", short: "h" } } as T,
      allowPositionals: true,
    });
  } catch (error) {
    throw new StackError(`${(error as Error).message}\n\n${help}`);
  }
  if ((parsed.values as { help?: boolean }).help) {
    console.log(help);
    Deno.exit(0);
  }
  const { length } = parsed.positionals;
  if (length < min) throw new StackError(help);
  if (length > max) throw new StackError(`Unexpected argument '${parsed.positionals[max]}'\n\n${help}`);
  return parsed;
}

/** Runs a command and ends the process: with what `main` answers, or 1 and the reason. */
export async function run(main: () => Promise<number | void>): Promise<never> {
  const code = await main().catch((error) => {
    console.error(error instanceof StackError ? error.message : error);
    return 1;
  });
  Deno.exit(code ?? 0); // what is still draining would hold the process back
}

/**
 * Where the stack on this data directory is.
 *
 * @throws {StackError} If none is running on it. The file of one that was killed stays behind, and somebody else may listen on its
 * port: only the stack itself takes its secret key.
 */
export async function runningStack(dataDir = join(import.meta.dirname!, "..", ".local")): Promise<StackEnv> {
  const env = await Deno.readTextFile(envFile(dataDir)).then(parseEnv, () => undefined);
  if (env && await answers(env)) return env;
  throw new StackError(`No stack is running on ${dataDir}. Start it in another terminal: npm start`);
}

async function answers({ API_URL, SECRET_KEY }: StackEnv): Promise<boolean> {
  try {
    const response = await fetch(`${API_URL}/rest/v1/sessions?limit=0`, {
      headers: { apikey: SECRET_KEY },
      signal: AbortSignal.timeout(10_000),
    });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}
