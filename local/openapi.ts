/** `npm run openapi`: writes docs/openapi.json, the API of all functions, from their zod schemas. */
import { fileURLToPath } from "node:url";
import { buildOpenapi, type Operation } from "../supabase/functions/_shared/openapi.ts";
import { functionNames } from "./functions.ts";

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
  await Deno.writeTextFile(
    new URL("../docs/openapi.json", import.meta.url),
    `${JSON.stringify(await describeApi(), null, 2)}\n`,
  );
  console.log("Wrote docs/openapi.json");
}
