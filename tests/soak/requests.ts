/** Requests of every kind that docs/openapi.json allows, and some that it does not, as fast-check makes them. */
import fc from "fast-check";
import { readFileSync } from "node:fs";

// deno-lint-ignore no-explicit-any -- JSON Schema is as it is
type Schema = any;

export interface Request {
  method: string;
  path: string;
  headers: Record<string, string>;
  body?: string;
}

export interface Route {
  /** `POST /documents/{collection}/find`. */
  name: string;
  requests: fc.Arbitrary<Request>;
}

/** Values for parameters, by name: ids of rows that are there and large. */
export type Pool = Record<string, string[]>;

const document = JSON.parse(readFileSync(new URL("../../docs/openapi.json", import.meta.url), "utf8"));

/** Words that mean something somewhere: a filter, an item, a part of a message. */
const WORDS = [
  "$or",
  "$and",
  "$in",
  "$nin",
  "$eq",
  "$gt",
  "$lte",
  "$exists",
  "$contains",
  "$like",
  "type",
  "text",
  "role",
];
const PATHS = [
  "a",
  "a.b",
  "tags",
  "id",
  "creation_utc",
  "a.0.b",
  "%a%",
  "%",
  "message",
  "input_text",
  "user",
  "assistant",
];

/** Somewhat more than a body may have. */
const MAX_BYTES = 5_000_000;
const repeat = (value: unknown, times: number, bytes: number) =>
  Array(Math.min(times, Math.ceil(bytes / (JSON.stringify(value).length + 1)))).fill(value);

const word = fc.oneof(fc.constantFrom(...WORDS, ...PATHS), fc.string({ maxLength: 12 }));
const text = fc.oneof(
  { weight: 8, arbitrary: fc.string({ unit: "grapheme", maxLength: 40 }) },
  { weight: 2, arbitrary: fc.constantFrom(...PATHS) },
  { weight: 1, arbitrary: fc.nat({ max: 20_000 }).map((n) => "%a".repeat(n)) },
);
const anyJson: fc.Arbitrary<unknown> = fc.letrec((tie) => ({
  leaf: fc.oneof(
    fc.constant(null),
    fc.boolean(),
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    text,
    word,
  ),
  node: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    tie("leaf"),
    fc.array(tie("node"), { maxLength: 6 }),
    fc.dictionary(word, tie("node"), { maxKeys: 6 }),
    // Wide: as many of one kind as may hurt.
    fc.tuple(tie("leaf"), fc.nat({ max: 3_000 })).map(([value, n]) => repeat(value, n, 100_000)),
  ),
})).node;

function arbitrary(schema: Schema, depth = 0): fc.Arbitrary<unknown> {
  if (schema === true || schema === undefined || depth > 6) return anyJson;
  if (schema.$ref) return arbitrary(document.components.schemas[schema.$ref.split("/").at(-1)], depth + 1);
  if ("const" in schema) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return fc.oneof(...choices.map((choice: Schema) => arbitrary(choice, depth + 1)));
  if (schema.allOf) return arbitrary(Object.assign({}, ...schema.allOf, { allOf: undefined }), depth + 1);
  switch (Array.isArray(schema.type) ? schema.type[0] : schema.type) {
    case "object": {
      const properties = Object.entries(schema.properties ?? {}).map(([name, of]) => [name, arbitrary(of, depth + 1)]);
      if (properties.length === 0) return fc.dictionary(word, anyJson, { maxKeys: 8 });
      return fc.record(Object.fromEntries(properties), { requiredKeys: schema.required ?? [] });
    }
    case "array": {
      const element = arbitrary(schema.items, depth + 1);
      const { minItems: minLength = 0, maxItems = 1000 } = schema;
      return fc.oneof(
        {
          weight: 4,
          arbitrary: fc.array(element, { minLength, maxLength: Math.max(minLength, Math.min(maxItems, 5)) }),
        },
        {
          weight: 1,
          arbitrary: fc.tuple(element, fc.nat({ max: maxItems })).map(([one, n]) =>
            repeat(one, Math.max(n, minLength), MAX_BYTES)
          ),
        },
      );
    }
    case "integer":
    case "number":
      return fc.integer({ min: schema.minimum ?? -2_147_483_648, max: schema.maximum ?? 2_147_483_647 });
    case "boolean":
      return fc.boolean();
    case "null":
      return fc.constant(null);
    case "string":
      if (schema.format === "uuid") return fc.uuid();
      if (schema.format === "date-time") return fc.date({ noInvalidDate: true }).map((date) => date.toISOString());
      if (schema.pattern && schema.pattern.length < 100) {
        return fc.stringMatching(new RegExp(schema.pattern), { maxLength: 60 });
      }
      return fc.oneof(
        text,
        fc.string({
          minLength: Math.min(schema.minLength ?? 0, 5),
          maxLength: Math.min(schema.maxLength ?? 300, 5_000),
        }),
      );
    default:
      return anyJson;
  }
}

/** A parameter: mostly one that leads to large rows, or what the schema says, sometimes anything. */
function parameter(name: string, schema: Schema, pool: Pool): fc.Arbitrary<string> {
  const asText = (value: unknown) => typeof value === "string" ? value : JSON.stringify(value);
  const choices = [{ weight: 3, arbitrary: arbitrary(schema).map(asText) }, {
    weight: 1,
    arbitrary: text as fc.Arbitrary<string>,
  }];
  if (pool[name]) choices.unshift({ weight: 8, arbitrary: fc.constantFrom(...pool[name]) });
  if (name === "metadata") choices.push({ weight: 4, arbitrary: fc.dictionary(word, anyJson).map(asText) });
  return fc.oneof(...choices);
}

/** All routes but those that need no caller. Streams, exports and imports may take longer than a request. */
export function routes(pool: Pool): Route[] {
  const all: Route[] = [];
  for (const [template, methods] of Object.entries<Schema>(document.paths)) {
    if (/\/(health|openapi\.json)$/.test(template)) continue;
    for (const [method, operation] of Object.entries<Schema>(methods)) {
      const parameters: Schema[] = operation.parameters ?? [];
      const of = (place: string) =>
        fc.record(
          Object.fromEntries(
            parameters.filter((p) => p.in === place).map(({ name, schema }) => [name, parameter(name, schema, pool)]),
          ),
          { requiredKeys: parameters.filter((p) => p.in === place && p.required).map(({ name }) => name) as never[] },
        );
      const content = operation.requestBody?.content?.["application/json"]?.schema;
      const body = content
        ? fc.oneof(
          { weight: 9, arbitrary: arbitrary(content).map((value) => JSON.stringify(value)) },
          { weight: 1, arbitrary: fc.oneof(anyJson.map((value) => JSON.stringify(value)), fc.string()) },
        )
        : fc.constant(undefined);
      all.push({
        name: `${method.toUpperCase()} ${template}`,
        requests: fc.record({ path: of("path"), query: of("query"), body }).map(({ path, query, body }) => {
          const search = new URLSearchParams(query as Record<string, string>);
          const filled = template.replaceAll(
            /\{(\w+)\}/g,
            (_, name) => encodeURIComponent((path as Record<string, string>)[name]) || "x",
          );
          return {
            method: method.toUpperCase(),
            path: search.size > 0 ? `${filled}?${search}` : filled,
            headers: body === undefined ? {} as Record<string, string> : { "content-type": "application/json" },
            body,
          };
        }),
      });
    }
  }
  // What removes what the others read comes last.
  return all.toSorted((a, b) => Number(REMOVES.test(a.name)) - Number(REMOVES.test(b.name)));
}

const REMOVES = /^DELETE|\/(drop|delete_\w+)$/;
