import { z } from "zod";

/** One route of an app, for its OpenAPI document. */
export interface Operation {
  summary: string;
  /** The path's parameters, where they are not all uuids. */
  params?: z.ZodObject;
  query?: z.ZodObject;
  body?: z.ZodType;
  /** Headers the route knows, beside those of authentication. */
  headers?: Record<string, string>;
  /** Status → what is answered: a schema for JSON, a media type with its description, or null for no body. */
  answers: Record<number, z.ZodType | { mediaType: string; description: string } | null>;
  /** Media types of a body that is not JSON. */
  bodyTypes?: Record<string, string>;
  /** Error codes beside those that every route may answer. */
  errors?: string[];
  /** The body of an error, where the route speaks as another API does. */
  errorBody?: z.ZodType;
  public?: boolean;
}

type Json = Record<string, unknown>;

/** The routes that `createApp` gives every function. */
export const publicOperations = (name: string): Record<string, Operation> => ({
  [`GET /${name}/health`]: {
    summary: "Says whether the database answers",
    public: true,
    answers: { 200: z.strictObject({ status: z.literal("ok"), database: z.literal("ok") }) },
    errors: ["database_unavailable"],
  },
  [`GET /${name}/openapi.json`]: {
    summary: "The OpenAPI document of this function",
    public: true,
    answers: { 200: z.looseObject({}) },
  },
});

/** What a route says of the `Idempotency-Key` header. */
export const idempotent = {
  "idempotency-key": "Repeating the request with the same key within 24 hours answers as the first time.",
};

/**
 * An OpenAPI 3.1 document from zod schemas. Schemas with an `id` in their metadata become components.
 *
 * @param operations By method and path as in Hono: `"GET /conversations/:id"`.
 */
export function buildOpenapi(operations: Record<string, Operation>): Json {
  const schemas: Json = {};
  const paths: Record<string, Json> = {};
  for (const [name, operation] of Object.entries(operations)) {
    const [method, route] = name.split(" ");
    const path = route.replaceAll(/:(\w+)/g, "{$1}");
    (paths[path] ??= {})[method.toLowerCase()] = {
      operationId: `${method.toLowerCase()}${route.replaceAll(/[/:_.-]+(\w)/g, (_, letter) => letter.toUpperCase())}`,
      summary: operation.summary,
      ...(operation.public && { security: [] }),
      parameters: [
        ...pathParameters(route, operation),
        ...queryParameters(operation, schemas),
        ...headerParameters(operation),
      ],
      ...requestBody(operation, schemas),
      responses: responses(operation, schemas),
    };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Threadbase",
      version: "0.1.0",
      description: "The durable memory of LLM applications, native to Supabase.",
    },
    servers: [{ url: "/functions/v1", description: "Of the project that serves this document" }],
    security: [{ user: [] }, { backend: [] }],
    paths,
    components: {
      securitySchemes: {
        user: { type: "http", scheme: "bearer", bearerFormat: "JWT", description: "A user's access token." },
        backend: {
          type: "apiKey",
          in: "header",
          name: "apikey",
          description: "The secret key of a trusted backend, which acts for the user in x-user-id.",
        },
      },
      schemas: Object.fromEntries(Object.entries(schemas).sort(([a], [b]) => a < b ? -1 : 1)),
    },
  };
}

const errorBody = z.strictObject({
  code: z.string(),
  message: z.string(),
  retryable: z.boolean().describe("Whether the same request may succeed later. Where not, repeating it helps nobody."),
  details: z.union([
    z.string(),
    z.array(z.strictObject({ path: z.string(), message: z.string(), limit: z.string().optional() })),
  ]).optional(),
  hint: z.string().optional(),
  request_id: z.string(),
}).meta({ id: "Error" });

/** The JSON Schema of a zod schema, with its named parts moved to the document's components. */
function toSchema(schema: z.ZodType, components: Json, io: "input" | "output"): Json {
  const { $schema: _, $defs = {}, ...root } = z.toJSONSchema(schema, {
    io,
    unrepresentable: "any",
    override: ({ zodSchema, jsonSchema }) => describeParameter(zodSchema, jsonSchema),
  }) as Json;
  Object.assign(components, relocate($defs as Json));
  const { id, ...rest } = root;
  if (typeof id !== "string") return relocate(root) as Json;
  components[id] = relocate(rest);
  return { $ref: `#/components/schemas/${id}` };
}

/** A query string holds text. What is read from it as a number or a boolean is one to whoever writes a client. */
function describeParameter({ _zod: { def } }: z.core.$ZodTypes, jsonSchema: Json): void {
  if (def.type === "pipe" && isScalar(def.out)) {
    for (const key in jsonSchema) delete jsonSchema[key];
    const { $schema: _, ...scalar } = z.toJSONSchema(def.out);
    Object.assign(jsonSchema, scalar);
  }
  // zod leaves out the default of what it transforms.
  if (def.type === "default" && isPipe(def.innerType) && isScalar(def.innerType._zod.def.out)) {
    jsonSchema.default = def.defaultValue;
  }
}

const isPipe = (schema: z.core.$ZodType): schema is z.core.$ZodPipe => schema._zod.def.type === "pipe";
const isScalar = ({ _zod: { def } }: z.core.$ZodType) => def.type === "number" || def.type === "boolean";

function relocate(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(relocate);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).filter(([key, child]) => !(key === "id" && typeof child === "string")).map(([key, child]) => [
      key,
      key === "$ref" ? String(child).replace("#/$defs/", "#/components/schemas/") : relocate(child),
    ]),
  );
}

function pathParameters(route: string, { params }: Operation): Json[] {
  const { properties = {} } = params ? toSchema(params, {}, "input") as { properties?: Record<string, Json> } : {};
  return [...route.matchAll(/:(\w+)/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: properties[name] ?? { type: "string", format: "uuid" },
  }));
}

function queryParameters({ query }: Operation, components: Json): Json[] {
  if (!query) return [];
  const { properties = {}, required = [] } = toSchema(query, components, "input") as {
    properties?: Record<string, Json>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, { description, ...schema }]) => ({
    name,
    in: "query",
    required: required.includes(name),
    ...(description ? { description } : {}),
    schema,
  }));
}

function headerParameters({ headers = {} }: Operation): Json[] {
  return Object.entries(headers).map(([name, description]) => ({
    name,
    in: "header",
    description,
    schema: { type: "string" },
  }));
}

function requestBody({ body, bodyTypes = {} }: Operation, components: Json): Json {
  const content: Json = Object.fromEntries(
    Object.entries(bodyTypes).map(([type, description]) => [type, { schema: { type: "string", description } }]),
  );
  if (body) content["application/json"] = { schema: toSchema(body, components, "input") };
  return Object.keys(content).length > 0 ? { requestBody: { required: true, content } } : {};
}

function responses({ answers, errors = [], errorBody: body = errorBody }: Operation, components: Json): Json {
  const success = Object.entries(answers).map(([status, answer]) => {
    if (answer === null) return [status, { description: "Done." }];
    if (answer instanceof z.ZodType) {
      const schema = toSchema(answer, components, "output");
      return [status, { description: "Success.", content: { "application/json": { schema } } }];
    }
    const { mediaType, description } = answer;
    return [status, { description, content: { [mediaType]: { schema: { type: "string" } } } }];
  });
  const description = ["Any other status is an error.", errors.length && `Codes of this route: ${errors.join(", ")}.`]
    .filter(Boolean).join(" ");
  const error = { description, content: { "application/json": { schema: toSchema(body, components, "output") } } };
  return { ...Object.fromEntries(success), default: error };
}
