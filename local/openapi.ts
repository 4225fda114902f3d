/** `npm run openapi`: writes docs/openapi.json, the API of all functions, from their zod schemas. */
import { fileURLToPath } from "node:url";
import { buildOpenapi, type Operation } from "../supabase/functions/_shared/openapi.ts";
import { readArguments, run } from "./command.ts";
import { functionNames } from "./functions.ts";

const HELP = `Writes docs/openapi.json from the schemas of the functions. No stack is needed.

Usage: npm run openapi`;

const functions = new URL("../supabase/functions/", import.meta.url);

/** The document of every function in one. */
export async function describeApi(): Promise<Record<string, unknown>> {
  const operations: Record<string, Operation> = {};
  for (const name of (await functionNames(fileURLToPath(functions))).toSorted()) {
    Object.assign(operations, (await import(new URL(`${name}/openapi.ts`, functions).href)).operations);
  }
  return buildOpenapi(operations);
}

if (import.meta.main) {
  await run(async () => {
    readArguments(HELP, {});
    const file = new URL("../docs/openapi.json", import.meta.url);
    await Deno.writeTextFile(file, `${JSON.stringify(await describeApi(), null, 2)}\n`);
    console.log("Wrote docs/openapi.json");
  });
}
