import type { SupabaseContext } from "@supabase/server";
import { withSupabase } from "@supabase/server/adapters/hono";
import type { SupabaseClient } from "@supabase/supabase-js";
import { createMiddleware } from "hono/factory";
import { z } from "zod";
import type { Database } from "./database.types.ts";
import { ApiError } from "./errors.ts";
import { invalidRequest } from "./http.ts";

/** Who calls, and the client that acts with their rights: everything a handler may know about authentication. */
export interface Caller {
  /** A user's client carries their token, so RLS decides. A backend's carries the secret key. */
  supabase: SupabaseClient<Database>;
  /** For whom a backend acts (`x-user-id`). Absent for a user: the database takes the token's. */
  userId?: string;
}

export interface AuthVariables {
  supabaseContext: SupabaseContext<Database>;
  caller: Caller;
}

/** For public routes. `c.var.supabaseContext.supabaseAdmin` is there for calls that carry nothing of the request. */
export const publicAccess = withSupabase<Database>({ auth: "none" });

const identifyCaller = createMiddleware<{ Variables: AuthVariables }>(async (c, next) => {
  const { authMode, jwtClaims, supabase, supabaseAdmin } = c.var.supabaseContext;
  if (authMode === "user") {
    // A legacy anon or service_role key is a signed JWT as well, but it is nobody's access token.
    if (jwtClaims?.role !== "authenticated") throw new ApiError(401, "unauthorized");
    c.set("caller", { supabase });
  } else {
    c.set("caller", { supabase: supabaseAdmin, userId: actingFor(c.req.header("x-user-id")) });
  }
  await next();
});

/**
 * Lets in a user (`Authorization: Bearer <access token>`) or a trusted backend (the secret key in `apikey`, acting for
 * the user in `x-user-id`) and sets `c.var.caller`. Anyone else gets 401.
 */
export const authenticate = [withSupabase<Database>({ auth: ["user", "secret"] }), identifyCaller] as const;

function actingFor(header: string | undefined): string | undefined {
  if (header === undefined || z.guid().safeParse(header).success) return header;
  throw invalidRequest([{ path: "x-user-id", message: "Not a uuid." }]);
}
