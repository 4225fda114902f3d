import { createAdminClient, createContextClient, verifyCredentials } from "@supabase/server/core";
import type { Context } from "hono";
import { createMiddleware } from "hono/factory";
import { z } from "zod";
import { TimedCache } from "./cache.ts";
import type { AppEnv, Caller } from "./caller.ts";
import type { Database } from "./database.types.ts";
import { ApiError } from "./errors.ts";
import { parse } from "./http.ts";
import { clientOptions } from "./rpc.ts";

/**
 * Users whose token was verified within the last minute, and has not expired since. Verifying it and making the client
 * are half of what a request costs here.
 *
 * The key is the whole token, signature included: a forged one is another key, and is verified like any other. A minute,
 * because a signing key may be withdrawn. PostgREST verifies the token of each call for itself.
 */
const verified = new TimedCache<Caller>(500);
const VERIFIED_MS = 60_000;

/**
 * Lets in a user (`Authorization: Bearer <access token>`) or a trusted backend (the secret key in `apikey`, acting for
 * the user in `x-user-id`) and sets `c.var.caller`. Anyone else gets 401. A user's token beside the secret key is the user's
 * request, and a bad one is 401: a backend that passes on what users send it never acts as itself by mistake.
 *
 * @param userId What may stand in `x-user-id`.
 */
export const authenticateAs = (userId: z.ZodType<string>) =>
  createMiddleware<AppEnv>(async (c, next) => {
    const [, token] = /^Bearer +(.+)$/i.exec(c.req.header("authorization") ?? "") ?? [];
    c.set("caller", (token && verified.get(token)) || await verify(c, token, userId));
    await next();
  });

/**
 * For whom Auth makes access tokens: one that it, or whoever has its key, made for somebody else is refused. Not the issuer:
 * inside the platform's containers the project has another address than in its tokens.
 */
const AUDIENCE = "authenticated";

async function verify(c: Context, bearer: string | undefined, userId: z.ZodType<string>): Promise<Caller> {
  const credentials = {
    token: bearer && !isKeyToken(bearer) ? bearer : null,
    apikey: c.req.header("apikey") ?? null,
  };
  const { data: auth, error } = await verifyCredentials(credentials, { auth: ["user", "secret"], audience: AUDIENCE });
  if (error) {
    throw error.status === 401
      ? new ApiError(401, "unauthorized")
      : new ApiError(500, "internal_error", { cause: error });
  }
  // Only the client that is needed: making both, as the library's middleware does, is a fifth of what a request costs here.
  if (auth.authMode === "user") {
    // Such as one of a role of the project's own.
    if (auth.jwtClaims?.role !== "authenticated") throw new ApiError(401, "unauthorized");
    const { token, jwtClaims: { exp, sub } } = auth;
    const caller = {
      supabase: createContextClient<Database>({ auth: { token }, supabaseOptions: clientOptions }),
      isBackend: false,
      actsFor: sub,
      expiresAt: exp,
    };
    verified.set(token!, caller, Math.min(Date.now() + VERIFIED_MS, (exp ?? Infinity) * 1000));
    return caller;
  }
  const { "x-user-id": id } = parse(z.object({ "x-user-id": userId.optional() }), c.req.header());
  const supabase = createAdminClient<Database>({
    auth: { keyName: auth.keyName },
    // Whose request it is, for a quota of requests: the database sees the arguments of a call too late for that.
    supabaseOptions: id
      ? { ...clientOptions, global: { ...clientOptions.global, headers: { "x-user-id": id } } }
      : clientOptions,
  });
  return { supabase, isBackend: true, userId: id, actsFor: id };
}

/**
 * Whether a token is an API key in the form of a JWT, which is nobody's access token. Gateways put one into Authorization
 * where only `apikey` came (the CLI's before 3.1, those of self-hosted projects), so the key is what counts. Nothing is
 * verified: whoever makes such a token up could as well send none.
 */
function isKeyToken(token: string): boolean {
  try {
    const payload = token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    return ["service_role", "anon"].includes(JSON.parse(atob(payload)).role);
  } catch {
    return false; // no JWT: verified, and refused, like any other
  }
}

/** {@link authenticateAs} for tables whose rows belong to users of Auth. */
export const authenticate = authenticateAs(z.guid("Not a uuid."));

/**
 * For clients that can send nothing but a Bearer token: a secret key there moves to `apikey`, where the middleware after
 * this one compares it as it does any other.
 */
export const secretKeyAsBearer = createMiddleware(async (c, next) => {
  const [, key] = /^Bearer (sb_secret_\S+)$/i.exec(c.req.header("authorization") ?? "") ?? [];
  if (key) {
    const headers = new Headers(c.req.raw.headers);
    headers.delete("authorization");
    headers.set("apikey", key);
    c.req.raw = new Request(c.req.raw, { headers });
  }
  await next();
});

/** For routes of backends alone: a user's token is 403 there. */
export const backendOnly = createMiddleware<AppEnv>(async (c, next) => {
  if (!c.var.caller.isBackend) throw new ApiError(403, "forbidden");
  await next();
});
