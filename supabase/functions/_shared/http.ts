import type { Context, TypedResponse } from "hono";
import { createMiddleware } from "hono/factory";
import { z } from "zod";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import type { AppEnv } from "./caller.ts";
import { ApiError } from "./errors.ts";
import {
  countMembers,
  findDuplicate,
  type JsonShape,
  MAX_DEPTH,
  MAX_NAMES,
  MAX_VALUES,
  PassedJson,
  type RawJson,
  shapeOf,
} from "./json.ts";
import { large } from "./turns.ts";

// ---- idempotency ----------------------------------------------------------------------------------------------------

/** The `Idempotency-Key` of a request that may be repeated. */
export function idempotencyKey(c: Context<AppEnv>): string | undefined {
  const key = c.req.header("idempotency-key");
  if (key === undefined || /^[\x20-\x7e]{1,255}$/.test(key)) return key;
  throw invalidRequest([{ path: "idempotency-key", message: "Expected 1 to 255 printable ASCII characters." }]);
}

/** For a write that repeats safely by itself, or takes its own key along: a key there would promise what nobody keeps. */
export const noIdempotencyKey = createMiddleware<AppEnv>(async (c, next) => {
  if (c.req.header("idempotency-key") !== undefined) throw new ApiError(400, "idempotency_key_useless");
  await next();
});

/** Says that an answer was given before. */
export function replayHeader(replayed?: true): Record<string, string> {
  return replayed ? { "idempotent-replayed": "true" } : {};
}

// ---- answers --------------------------------------------------------------------------------------------------------

/** Answers JSON that was not parsed, such as a page of large rows. */
export function sendJson<T, S extends ContentfulStatusCode = 200>(
  c: Context<AppEnv>,
  json: RawJson<T> | PassedJson<T>,
  status = 200 as S,
  headers: Record<string, string> = {},
): Response & TypedResponse<T, S, "json"> {
  let body = json instanceof PassedJson ? json.body : json.bytes;
  if (json instanceof PassedJson && c.req.method === "HEAD") {
    // Hono sends the headers alone, and would leave the body where it is, its connection with it.
    json.body.cancel().catch(() => {});
    body = new Uint8Array();
  }
  return c.body(body, status, { ...headers, "content-type": "application/json" }) as unknown as
    & Response
    & TypedResponse<T, S, "json">;
}

// ---- validation -----------------------------------------------------------------------------------------------------

/** A request with more than this waits for its turn. What an application asks for all day has less. */
const LARGE_BODY_BYTES = 256 * 1024;
const LARGE_BODY_VALUES = 1000;
const LARGE_PAGE = 100;
const LARGE_CONTEXT = 100_000;

/**
 * Validates the JSON body: 415 for another content type, 400 for what does not parse or does not fit.
 *
 * @param manyValues From how many values on the body is large.
 */
export const json = <T extends z.ZodType>(schema: T, manyValues = LARGE_BODY_VALUES) =>
  createMiddleware<AppEnv, string, { in: { json: z.input<T> }; out: { json: z.output<T> } }>(async (c, next) => {
    const read = async () => {
      const bytes = await readBody(c.req.raw);
      const shape = bytes && checkShape(bytes);
      const use = async () => {
        c.req.addValidatedData("json", parse(schema, bytes ? parseJson(bytes, shape) : {}) as object);
        await next();
      };
      await (shape && shape.values > manyValues ? large(c, use) : use());
    };
    // Of a large one not even the bytes are taken before.
    const length = Number(c.req.header("content-length") ?? (c.req.raw.body ? Infinity : 0));
    await (length > LARGE_BODY_BYTES ? large(c, read) : read());
  });

/**
 * Validates the query string. `forceFunctionRegion` is supabase-js's own (`invoke` with a region).
 *
 * @param lists The parameters that may be repeated, arrays in the schema.
 */
export const query = <T extends z.ZodType>(schema: T, lists: string[] = []) =>
  createMiddleware<AppEnv, string, { in: { query: z.input<T> }; out: { query: z.output<T> } }>(async (c, next) => {
    const { forceFunctionRegion: _, ...parameters } = c.req.queries();
    const repeated = Object.keys(parameters).filter((name) => parameters[name].length > 1 && !lists.includes(name));
    if (repeated.length > 0) {
      throw invalidRequest(repeated.slice(0, MAX_DETAILS).map((path) => ({ path, message: "Given more than once." })));
    }
    const values = Object.fromEntries(
      Object.entries(parameters).map(([name, values]) => [name, lists.includes(name) ? values : values[0]]),
    );
    const parsed = parse(schema, values) as { limit?: number; max_tokens?: number };
    c.req.addValidatedData("query", parsed);
    const { limit = 0, max_tokens = 0 } = parsed;
    await (limit > LARGE_PAGE || max_tokens > LARGE_CONTEXT ? large(c, next) : next());
  });

/** For a route without parameters: one that is sent is refused by name, not ignored. */
export const noQuery = query(z.strictObject({}));

/** Validates the path parameters. */
export const param = <T extends z.ZodType>(schema: T) =>
  createMiddleware<AppEnv, string, { in: { param: z.input<T> }; out: { param: z.output<T> } }>(async (c, next) => {
    c.req.addValidatedData("param", parse(schema, c.req.param()) as object);
    await next();
  });

/** More failing paths than this help nobody, and a hostile body has hundreds of thousands. */
const MAX_DETAILS = 20;

/** The value as the schema has it, or 400 `invalid_request` with the failing paths. */
export function parse<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value, { reportInput: true });
  if (result.success) return result.data;
  const details: { path: string; message: string }[] = [];
  for (const issue of result.error.issues) {
    const failures = issue.code === "unrecognized_keys"
      ? issue.keys.slice(0, MAX_DETAILS).map((key) => ({ path: [...issue.path, key], message: "Unknown field." }))
      : [issue];
    for (const { path, message } of failures) details.push({ path: formatPath(path), message });
    if (details.length >= MAX_DETAILS) break;
  }
  throw invalidRequest(details.slice(0, MAX_DETAILS), result.error);
}

/** 400 `invalid_request` with the failing paths. */
export function invalidRequest(details: { path: string; message: string }[], cause?: z.ZodError): ApiError {
  return new ApiError(400, "invalid_request", { details, cause });
}

/** `["messages", 0, "role"]` → `messages[0].role` */
function formatPath(path: readonly PropertyKey[]): string {
  return path.map((key, i) => typeof key === "number" ? `[${key}]` : `${i ? "." : ""}${String(key)}`).join("");
}

/** The bytes of a JSON body; none where nothing was sent. */
async function readBody(request: Request): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const contentType = request.headers.get("content-type");
  if (request.headers.has("content-encoding")) throw new ApiError(415, "unsupported_media_type");
  const bytes = new Uint8Array(await request.arrayBuffer());
  // `functions.invoke(name)` without a body sends no content type either: an empty object.
  if (bytes.byteLength === 0 && contentType === null) return;
  if (!/^application\/([\w.-]+\+)?json\s*(;|$)/i.test(contentType ?? "")) {
    throw new ApiError(415, "unsupported_media_type");
  }
  return bytes;
}

/**
 * The JSON in these bytes.
 *
 * @throws {ApiError} 400 `invalid_json` for what does not parse, `invalid_request` for what cannot be stored, or would cost
 * more to parse than a request may.
 */
export function parseJson(bytes: Uint8Array<ArrayBuffer>, shape = checkShape(bytes)): unknown {
  const value = decodeJson(bytes, shape);
  if (shape.suspicious) refuseUnstorable(value);
  return value;
}

const TOO_DEEP = `Is nested deeper than ${MAX_DEPTH} levels.`;

/** Before it is parsed. @throws {ApiError} 400 `invalid_request` for JSON that is too deep, or of too many pieces. */
export function checkShape(bytes: Uint8Array, maxValues = MAX_VALUES): JsonShape {
  const shape = shapeOf(bytes, maxValues);
  const refuse = (message: string) => invalidRequest([{ path: "", message }]);
  if (shape.depth > MAX_DEPTH) throw refuse(TOO_DEEP);
  if (shape.values > maxValues) throw refuse(`Has more than ${maxValues} values: send it in several requests.`);
  if (shape.names > MAX_NAMES) throw refuse(`Has more than ${MAX_NAMES} different names of fields.`);
  return shape;
}

/**
 * The JSON in these bytes, which may hold what cannot be stored.
 *
 * @throws {ApiError} 400 `invalid_json` for what does not parse, `invalid_request` for a name that an object has twice: which
 * of the two is meant, nobody knows, and whoever checked the request before us may have looked at the other.
 */
export function decodeJson(bytes: Uint8Array<ArrayBuffer>, { members }: JsonShape): unknown {
  let value: unknown;
  try {
    // fatal: bytes that are not UTF-8 must not become U+FFFD unnoticed.
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new ApiError(400, "invalid_json", { details: (error as Error).message });
  }
  if (countMembers(value) < members) {
    throw invalidRequest([{
      path: formatPath(findDuplicate(bytes) ?? []),
      message: "The object has this name twice.",
    }]);
  }
  return value;
}

/**
 * Numbers that JavaScript cannot keep as sent, and depth beyond the database's limit: refusing them by path beats changing
 * them silently.
 *
 * @throws {ApiError} 400 `invalid_request` with the path of the first.
 */
export function refuseUnstorable(value: unknown, path: PropertyKey[] = []): void {
  const problem = whyUnstorable(value, path.length);
  if (problem) throw invalidRequest([{ path: formatPath(path), message: problem }]);
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      path.push(i);
      refuseUnstorable(value[i], path);
      path.pop();
    }
  } else if (typeof value === "object" && value !== null) {
    for (const key of Object.keys(value)) {
      path.push(key);
      refuseUnstorable((value as Record<string, unknown>)[key], path);
      path.pop();
    }
  }
}

function whyUnstorable(value: unknown, depth: number): string | undefined {
  switch (typeof value) {
    case "number":
      if (!Number.isFinite(value) || Number.isInteger(value) && !Number.isSafeInteger(value)) {
        return "Is a number too large to be kept exactly: send it as a string.";
      }
      return;
    case "object":
      if (depth > MAX_DEPTH) return TOO_DEEP;
  }
}
