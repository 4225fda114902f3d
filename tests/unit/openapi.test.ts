import { Validator } from "@seriousme/openapi-schema-validator";
import { assert, assertEquals } from "@std/assert";
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

Deno.test("docs/limits.md has what each route and each function of the database may use, and no others", async () => {
  const page = await Deno.readTextFile(new URL("../../docs/limits.md", import.meta.url));
  const [, table] = page.match(/\n## Each call\n(.*?)\n## /s)!;
  const named = (column: number) =>
    table.split("\n").filter((line) => line.startsWith("|")).slice(2)
      .flatMap((line) => [...line.split("|")[column].matchAll(/`([^`]+)`/g)].map(([, name]) => name));
  const routes = Object.entries(openapi.paths as Record<string, Record<string, unknown>>)
    .filter(([path]) => !/\/(health|openapi\.json)$/.test(path))
    .flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`));
  const inTable = named(1).filter((name) => name.includes(" "));
  assertEquals(inTable.toSorted(), routes.toSorted());

  // Each function that a caller may execute is there once at least, whichever route it serves.
  const schemas = new URL("../../supabase/schemas/", import.meta.url);
  const rpcs = new Set<string>();
  for (const { name: module } of Deno.readDirSync(schemas)) {
    for (const { name } of Deno.readDirSync(new URL(`${module}/`, schemas))) {
      const sql = await Deno.readTextFile(new URL(`${module}/${name}`, schemas));
      for (const [, rpc] of sql.matchAll(/^create function public\.(\w+)/gm)) rpcs.add(rpc);
    }
  }
  assertEquals([...new Set(named(2))].toSorted(), [...rpcs].toSorted());
});

Deno.test("a query parameter that is read as a number is an integer with its bounds and default", () => {
  const paths = openapi.paths as Record<string, Record<string, { parameters: Parameter[] }>>;
  const seen = new Set<string>();
  for (const [route, { query }] of functions.flatMap(({ operations }) => Object.entries(operations))) {
    const [method, path] = route.split(" ");
    const { parameters } = paths[path.replaceAll(/:(\w+)/g, "{$1}")][method.toLowerCase()];
    for (const [name, schema] of Object.entries(query?.shape ?? {})) {
      const { type, minimum, maximum, default: byDefault } = parameters.find((p) => p.name === name)!.schema;
      const read = (value?: unknown) => schema.safeParse(value).data;
      if (typeof read("1") === "number") {
        seen.add(name);
        assertEquals([type, read(), read(`${minimum}`), read(`${maximum}`)], ["integer", byDefault, minimum, maximum]);
        assertEquals([read(`${minimum! - 1}`), read(`${maximum! + 1}`)], [undefined, undefined], `${route}: ${name}`);
      } else if (typeof read("true") === "boolean") {
        seen.add(name);
        assertEquals([type, read(), read("1")], ["boolean", byDefault, undefined]);
      } else {
        assert(type !== "integer" && type !== "number", `${route}: ${name} is sent as a number and not read as one`);
      }
    }
  }
  for (const name of ["after", "before", "fold", "limit", "max_tokens"]) assert(seen.has(name), name);
});

interface Parameter {
  name: string;
  schema: { type?: string; minimum?: number; maximum?: number; default?: unknown };
}
