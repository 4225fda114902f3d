// `npm run types`: writes database.types.ts from the running stack's schema.
import { generateTypes, typesFile } from "./cli.ts";
import { dbUrl } from "./stack.ts";

await Deno.writeTextFile(typesFile, await generateTypes(dbUrl));
console.log("Wrote supabase/functions/_shared/database.types.ts");
