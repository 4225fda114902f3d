/**
 * What @supabase/lite's Auth lacks: the users of the admin API, and bans. Routes, bodies and errors are GoTrue's
 * (supabase/auth, internal/api/admin.go).
 */
import { type Context, Hono } from "hono";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { jwtVerify } from "jose";
import type postgres from "postgres";
import { z } from "zod";
import type { Keys } from "./keys.ts";
import { roleTokens } from "./roles.ts";
import { type Changes, Users } from "./users.ts";

type Fetch = (request: Request) => Promise<Response>;

/** `minimum_password_length` of supabase/config.toml. */
export const MINIMUM_PASSWORD_LENGTH = 8;
/** What bcrypt reads of a password, in bytes. */
const MAXIMUM_PASSWORD_LENGTH = 72;

class AuthError extends Error {
  constructor(readonly status: ContentfulStatusCode, readonly code: string, message: string, readonly more = {}) {
    super(message);
  }
}

/** No 501: auth-js takes every 5xx for a server that may be asked again. */
const notImplemented = (what: string) => new AuthError(422, "not_implemented", `The local stack has no ${what}`);
const invalid = (message: string) => new AuthError(400, "validation_failed", message);

const attributes = z.object({
  id: z.string(),
  role: z.string(),
  email: z.string(),
  phone: z.string(),
  password: z.string(),
  password_hash: z.string(),
  email_confirm: z.boolean(),
  user_metadata: z.record(z.string(), z.unknown()),
  app_metadata: z.record(z.string(), z.unknown()),
  ban_duration: z.string(),
}).partial();

/**
 * @param sql Connected as a superuser.
 * @param next Answers what is not answered here.
 */
export function completeAuth(sql: postgres.Sql, keys: Keys, next: Fetch): Fetch {
  const users = new Users(sql);
  const withRole = roleTokens(keys);
  const secret = new TextEncoder().encode(keys.jwtSecret);
  const claims = async (token: string) => (await jwtVerify(token, secret, { algorithms: ["HS256"] })).payload;

  const app = new Hono().basePath("/auth/v1");
  app.onError(answer);

  app.use("/admin/*", async (c, handle) => {
    const headers = await withRole(c.req.raw);
    if (headers instanceof Response) return headers;
    const token = bearer(headers);
    if (!token) throw new AuthError(401, "no_authorization", "This endpoint requires a valid Bearer token");
    const { role } = await claims(token).catch((error) => {
      throw new AuthError(403, "bad_jwt", `invalid JWT: unable to parse or verify signature, ${error.message}`);
    });
    if (role !== "service_role") throw new AuthError(403, "not_admin", "User not allowed");
    await handle();
  });

  app.get("/admin/users", async (c) => {
    const [page, perPage] = [positive(c, "page", 1), positive(c, "per_page", 50)];
    const sort = /^created_at( asc| desc)?$/i.exec(c.req.query("sort") ?? "created_at");
    if (!sort) throw invalid("Bad Sort Parameters: created_at, with asc or desc");
    const ascending = sort[1]?.toLowerCase() === " asc";
    const { total, list } = await users.list({ page, perPage, ascending, filter: c.req.query("filter") ?? "" });
    return c.json({ users: list, aud: "authenticated" }, 200, {
      "link": links(c.req.url, page, Math.ceil(total / perPage)),
      "x-total-count": `${total}`,
    });
  });

  app.post("/admin/users", async (c) => {
    const body = await read(c, attributes);
    const { id = crypto.randomUUID(), password, password_hash } = body;
    if (password !== undefined && password_hash) {
      throw invalid("Only a password or a password hash should be provided");
    }
    if (password_hash && !/^\$2[aby]\$/.test(password_hash)) throw notImplemented("password hashes but bcrypt's");
    if (!z.guid().safeParse(id).success) throw invalid("ID must conform to the uuid v4 format");
    if (password && new TextEncoder().encode(password).length > MAXIMUM_PASSWORD_LENGTH) {
      throw invalid("bcrypt: password length exceeds 72 bytes");
    }
    const changes = changesOf(body);
    if (!changes.email) throw invalid("Cannot create a user without either an email or phone");
    const user = await users.create(id, {
      ...changes,
      email: changes.email,
      password_hash,
      // GoTrue makes one up too, and does not ask whether it is strong.
      password: password || crypto.getRandomValues(new Uint8Array(32)).toBase64(),
    });
    if (!user) throw new AuthError(422, "email_exists", "A user with this email address has already been registered");
    return c.json(user);
  });

  app.on(["GET", "PUT", "DELETE"], "/admin/users/:id", async (c) => {
    const id = c.req.param("id");
    if (!z.guid().safeParse(id).success) {
      throw new AuthError(404, "validation_failed", "user_id must be an UUID");
    }
    const user = await users.find(id);
    if (!user) throw new AuthError(404, "user_not_found", "User not found");
    if (c.req.method === "GET") return c.json(user);

    if (c.req.method === "PUT") {
      const changes = changesOf(await read(c, attributes));
      if (changes.password !== undefined) checkPassword(changes.password);
      return c.json(await users.update(id, changes));
    }
    const { should_soft_delete } = await read(c, z.object({ should_soft_delete: z.boolean().optional() }));
    await (should_soft_delete ? users.softDelete(id) : users.delete(id));
    return c.json({});
  });

  app.all("/admin/*", (c) => {
    throw notImplemented(`${c.req.method} ${c.req.path}`);
  });

  app.post("/token", async (c) => {
    const body = await c.req.raw.clone().json().catch(() => ({}));
    const refresh = c.req.query("grant_type") === "refresh_token";
    if (await (refresh ? users.holderIsBanned(body?.refresh_token) : users.emailIsBanned(body?.email))) {
      throw new AuthError(400, "user_banned", refresh ? "Invalid Refresh Token: User Banned" : "User is banned");
    }
    return await next(c.req.raw);
  });

  app.all("*", async (c) => {
    const token = bearer(c.req.raw.headers);
    const { sub } = token ? await claims(token).catch(() => ({ sub: undefined })) : {};
    if (sub && await users.isBanned(sub)) {
      throw new AuthError(403, "user_banned", "User is banned");
    }
    return await next(c.req.raw);
  });

  return async (request) => await app.fetch(request);
}

/** `{code, error_code, msg}`, or what GoTrue shows of an error that a trigger or a constraint of the project raised. */
function answer(error: Error, c: Context): Response {
  if (error instanceof AuthError) {
    const { status, code, message, more } = error;
    return c.json({ code: status, error_code: code, msg: message, ...more }, status, { "x-sb-error-code": code });
  }
  const { code, message, hint, detail } = error as postgres.PostgresError;
  const status = /^(P0001|23\d\d\d)$/.test(code) ? 500 : Number(/^PT(\d{3})$/.exec(code)?.[1]);
  if (status) return c.json({ code, message, hint, detail }, status as ContentfulStatusCode);
  return c.json({ code: 500, error_code: "unexpected_failure", msg: "Database error" }, 500);
}

function bearer(headers: Headers): string | undefined {
  return headers.get("authorization")?.match(/^Bearer (\S+)$/i)?.[1];
}

/** An empty body is `{}`, and null in it is absent, as for Go's decoder. */
async function read<T>(c: Context, schema: z.ZodType<T>): Promise<T> {
  try {
    const body = JSON.parse(await c.req.text() || "{}");
    return schema.parse(Object.fromEntries(Object.entries(body).filter(([, value]) => value !== null)));
  } catch (error) {
    const reason = error instanceof z.ZodError ? z.prettifyError(error) : (error as Error).message;
    throw new AuthError(400, "bad_json", `Could not parse request body as JSON: ${reason}`);
  }
}

function changesOf(body: z.infer<typeof attributes>): Changes {
  if (body.phone) throw notImplemented("phone numbers");
  const email = body.email || undefined;
  if (email && !z.email().max(255).safeParse(email).success) {
    throw invalid("Unable to validate email address: invalid format");
  }
  const { role, password, email_confirm, user_metadata, app_metadata, ban_duration } = body;
  const ban_ms = ban_duration ? milliseconds(ban_duration) : undefined;
  return { email: email?.toLowerCase(), role, password, email_confirm, user_metadata, app_metadata, ban_ms };
}

function checkPassword(password: string): void {
  if (new TextEncoder().encode(password).length > MAXIMUM_PASSWORD_LENGTH) {
    throw invalid(`Password cannot be longer than ${MAXIMUM_PASSWORD_LENGTH} characters`);
  }
  if (password.length >= MINIMUM_PASSWORD_LENGTH) return;
  const message = `Password should be at least ${MINIMUM_PASSWORD_LENGTH} characters.`;
  throw new AuthError(422, "weak_password", message, { weak_password: { reasons: ["length"] } });
}

/** Go's durations: `24h`, `1h30m`; `none` is 0. */
function milliseconds(duration: string): number {
  if (duration === "none") return 0;
  if (!/^[+-]?(\d+(\.\d+)?(ms|s|m|h))+$/.test(duration)) {
    throw invalid(`invalid format for ban duration: time: invalid duration "${duration}"`);
  }
  const units: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  const parts = [...duration.matchAll(/([\d.]+)(ms|s|m|h)/g)];
  return (duration.startsWith("-") ? -1 : 1) * parts.reduce((sum, [, n, unit]) => sum + Number(n) * units[unit], 0);
}

function positive(c: Context, name: string, otherwise: number): number {
  const text = c.req.query(name) || `${otherwise}`;
  if (!/^\d{1,9}$/.test(text)) throw invalid(`Bad Pagination Parameters: ${name}`);
  return Math.max(1, Number(text));
}

/** GoTrue's own path, and `page` first: auth-js reads it from there. */
function links(url: string, page: number, last: number): string {
  const link = (page: number, rel: string) => {
    const query = new URL(url).searchParams;
    query.set("page", `${page}`);
    query.sort();
    return `</admin/users?${query}>; rel="${rel}"`;
  };
  return [...last > page ? [link(page + 1, "next")] : [], link(last, "last")].join(", ");
}
