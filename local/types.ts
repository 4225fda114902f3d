/** `npm run types`: writes database.types.ts from the running stack's schema. */
import { generateTypes, typesFile } from "../tests/support/cli.ts";
import { DATA_DIR_HELP, dataDirOption, readArguments, run, runningStack } from "./command.ts";

const HELP = `Writes supabase/functions/_shared/database.types.ts from the schema of the running local stack.

Usage: npm run types -- [options]

${DATA_DIR_HELP}
  --help`;

await run(async () => {
  const { values } = readArguments(HELP, dataDirOption);
  const { API_URL, DB_URL } = await runningStack(values["data-dir"]);
  await Deno.writeTextFile(typesFile, await generateTypes(DB_URL));
  console.log(`Wrote supabase/functions/_shared/database.types.ts from the stack at ${API_URL}`);
});
