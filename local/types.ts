/** `npm run types`: writes database.types.ts from the running stack's schema. */
import { join } from "node:path";
import { generateTypes, typesFile } from "../tests/support/cli.ts";
import { envFile, parseEnv } from "./env.ts";

const env = parseEnv(await Deno.readTextFile(envFile(join(import.meta.dirname!, "..", ".local"))));
await Deno.writeTextFile(typesFile, await generateTypes(env.DB_URL));
console.log("Wrote supabase/functions/_shared/database.types.ts");
