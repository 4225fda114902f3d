import { Validator } from "@seriousme/openapi-schema-validator";
import { assertEquals } from "@std/assert";
import { app } from "../../supabase/functions/conversations/app.ts";
import { openapi, operations } from "../../supabase/functions/conversations/openapi.ts";

Deno.test("docs/openapi.json is what the schemas say (refresh it with: npm run openapi)", async () => {
  const file = await Deno.readTextFile(new URL("../../docs/openapi.json", import.meta.url));
  assertEquals(file, `${JSON.stringify(openapi, null, 2)}\n`);
});

Deno.test("the document is valid OpenAPI 3.1, and the validator would notice if not", async () => {
  assertEquals(await new Validator().validate(openapi), { valid: true });
  const { valid } = await new Validator().validate({ ...openapi, paths: { "/x": { get: { responses: "none" } } } });
  assertEquals(valid, false);
});

Deno.test("every route is in the document, and nothing else", () => {
  const routes = app.routes
    .filter(({ method, path }) => method !== "ALL" && !path.endsWith("/*"))
    .map(({ method, path }) => `${method} ${path}`);
  assertEquals(new Set(Object.keys(operations)), new Set(routes));
});

Deno.test("it is served, without credentials", async () => {
  const response = await app.request("/conversations/openapi.json");
  assertEquals([response.status, await response.json()], [200, JSON.parse(JSON.stringify(openapi))]);
});
