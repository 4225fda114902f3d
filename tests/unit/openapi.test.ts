import { Validator } from "@seriousme/openapi-schema-validator";
import { assertEquals } from "@std/assert";
import { describeApi } from "../../local/openapi.ts";
import { functions } from "../support/apps.ts";

const openapi = await describeApi();

Deno.test("docs/openapi.json is what the schemas say (refresh it with: npm run openapi)", async () => {
  const file = await Deno.readTextFile(new URL("../../docs/openapi.json", import.meta.url));
  assertEquals(file, `${JSON.stringify(openapi, null, 2)}\n`);
});

Deno.test("the document is valid OpenAPI 3.1, and the validator would notice if not", async () => {
  assertEquals(await new Validator().validate(openapi), { valid: true });
  const { valid } = await new Validator().validate({ ...openapi, paths: { "/x": { get: { responses: "none" } } } });
  assertEquals(valid, false);
});

for (const { name, app, routes, operations, openapi } of functions) {
  Deno.test(`${name}: every route is in the document, and nothing else`, () => {
    assertEquals(new Set(Object.keys(operations)), new Set(routes.map((route) => route.name)));
  });

  Deno.test(`${name}: its document is valid, and served without credentials`, async () => {
    assertEquals(await new Validator().validate(openapi), { valid: true });
    const response = await app.request(`/${name}/openapi.json`);
    assertEquals([response.status, await response.json()], [200, JSON.parse(JSON.stringify(openapi))]);
  });
}
