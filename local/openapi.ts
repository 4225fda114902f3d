/** `npm run openapi`: writes docs/openapi.json from the zod schemas. */
import { openapi } from "../supabase/functions/conversations/openapi.ts";

await Deno.writeTextFile(new URL("../docs/openapi.json", import.meta.url), `${JSON.stringify(openapi, null, 2)}\n`);
console.log("Wrote docs/openapi.json");
