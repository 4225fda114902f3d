/** `npm run -s status -- -o env`: where the running stack is, like `supabase status`. */
import { DATA_DIR_HELP, dataDirOption, readArguments, run, runningStack } from "./command.ts";
import { formatEnv, type StackEnv } from "./env.ts";
import { StackError } from "./errors.ts";

const HELP = `Prints where the running local stack is, and its keys.

Usage: npm run -s status -- [options]

  -o, --output FORMAT   pretty (default), env or json
${DATA_DIR_HELP}
  --help

Ends with 1 if no stack is running.`;

const formats: Partial<Record<string, (env: StackEnv) => string>> = {
  pretty: (env) => Object.entries(env).map(([name, value]) => `${name.padEnd(16)} ${value}`).join("\n"),
  env: (env) => formatEnv(env).trimEnd(),
  json: (env) => JSON.stringify(env, null, 2),
};

await run(async () => {
  const { values } = readArguments(HELP, {
    output: { type: "string", short: "o", default: "pretty" },
    ...dataDirOption,
  });
  const format = formats[values.output];
  if (!format) throw new StackError(`-o ${values.output}: it is one of ${Object.keys(formats).join(", ")}.`);
  console.log(format(await runningStack(values["data-dir"])));
});
