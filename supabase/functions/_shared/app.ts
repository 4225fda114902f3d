import { createAdminClient } from "@supabase/server/core";
import { corsHeaders } from "@supabase/supabase-js/cors";
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { cors } from "hono/cors";
import { HTTPException } from "hono/http-exception";
import { methodNotAllowed } from "hono/method-not-allowed";
import { requestId } from "hono/request-id";
import { matchedRoutes } from "hono/route";
import type { AppEnv } from "./caller.ts";
import type { Database } from "./database.types.ts";
import { ApiError, type ErrorBody } from "./errors.ts";
import { noQuery } from "./http.ts";
import { clientOptions, unwrap } from "./rpc.ts";

const MAX_BODY_BYTES = 4 * 1024 * 1024;
const ALLOW_ORIGIN = corsHeaders["Access-Control-Allow-Origin"];
const EXPOSE_HEADERS = [
  "idempotent-replayed",
  "x-request-id",
  "allow",
  "location",
  "retry-after",
  "x-should-retry",
  "x-consistency-token",
  "x-vercel-ai-ui-message-stream",
];

/**
 * Allows every header that a page asks for: tracing tools add theirs to requests that they know nothing about, and one
 * that is refused takes the whole request with it. No cookie ever counts, so a page can do no more than its token lets it.
 */
const preflight = cors({ origin: ALLOW_ORIGIN, maxAge: 86_400 });

/** Where a function speaks as another API does. */
export interface AppOptions {
  /** The body of an error, instead of {@link ErrorBody}. */
  toErrorBody?: (error: ApiError, requestId: string) => object;
}

/**
 * The Hono app of one function: CORS, request id, body limit, JSON for every error, and the two public routes that
 * every function has, `/health` and `/openapi.json`.
 *
 * @param name The function's name. The platform keeps it in the path, so routes are relative to it.
 * @param loadOpenapi Imports the document when it is asked for: it is no part of a cold start.
 */
export function createApp(
  name: string,
  loadOpenapi: () => Promise<{ openapi: Record<string, unknown> }>,
  { toErrorBody = (error, requestId) => error.body(requestId) }: AppOptions = {},
) {
  const writeError = (c: Context<AppEnv>, error: ApiError) => {
    if (error.status >= 500) logError(c, error);
    return c.json(toErrorBody(error, c.var.requestId), error.status, error.headers);
  };
  const app = new Hono<AppEnv>({ strict: false }).basePath(`/${name}`);
  app.use(
    requestId(),
    async (c, next) => {
      if (c.req.method === "OPTIONS") return await preflight(c, next);
      await next();
      // What hono/cors would set before, on an empty response that Hono then copies every answer into.
      c.res.headers.set("access-control-allow-origin", ALLOW_ORIGIN);
      c.res.headers.set("access-control-expose-headers", EXPOSE_HEADERS.join(","));
    },
    methodNotAllowed({ app, onMethodNotAllowed: (c, allowed) => writeError(c, methodError(allowed)) }),
    bodyLimit({
      maxSize: MAX_BODY_BYTES,
      onError: () => {
        throw new ApiError(413, "payload_too_large");
      },
    }),
  );
  app.notFound((c) => writeError(c, new ApiError(404, "not_found")));
  app.onError((error, c) => {
    if (error instanceof ApiError) return writeError(c, error);
    if (error instanceof HTTPException && error.status === 401) return writeError(c, new ApiError(401, "unauthorized"));
    return writeError(c, new ApiError(500, "internal_error", { cause: error }));
  });
  return app
    .get("/health", noQuery, async (c) => {
      // A database that hangs is as bad as none.
      const supabase = createAdminClient<Database>({ supabaseOptions: clientOptions });
      unwrap(await supabase.rpc("health").abortSignal(AbortSignal.timeout(3000)));
      return c.json({ status: "ok", database: "ok" });
    })
    .all("/health", only("GET", "HEAD"))
    .get("/openapi.json", noQuery, async (c) => c.json((await loadOpenapi()).openapi))
    .all("/openapi.json", only("GET", "HEAD"));
}

/**
 * Ends a static path after its own verbs, so that a wrong one is 405 there and does not reach `/:id` as a bad id.
 *
 * @example app.get("/search", …).all("/search", only("GET", "HEAD"))
 */
export function only(...methods: string[]): () => never {
  return () => {
    throw methodError(methods);
  };
}

function methodError(allowed: string[]): ApiError {
  return new ApiError(405, "method_not_allowed", { headers: { Allow: allowed.join(", ") } });
}

/** The body of an error that an answer tells of when its status is sent already, logged like any other. */
export function describeError(c: Context<AppEnv>, error: unknown): ErrorBody {
  const known = error instanceof ApiError ? error : new ApiError(500, "internal_error", { cause: error });
  if (known.status >= 500) logError(c, known);
  return known.body(c.var.requestId);
}

/**
 * One JSON line. The database's `details` stay out: "failing row contains …" would log what people wrote; and so do the names in a
 * path, of collections and items, which people give.
 */
function logError(c: Context<AppEnv>, error: ApiError): void {
  const { cause } = error.extra;
  console.error(JSON.stringify({
    level: "error",
    request_id: c.var.requestId,
    method: c.req.method,
    route: matchedRoutes(c).findLast(({ path }) => !path.endsWith("*"))?.path,
    code: error.code,
    cause: cause instanceof Error
      ? { code: (cause as { code?: string }).code, message: cause.message, stack: cause.stack }
      : cause && { code: (cause as { code?: string }).code, message: (cause as { message?: string }).message },
  }));
}
