/** API keys become the tokens of their roles, as at the platform's gateway: PostgREST and GoTrue know tokens only. */
import { SignJWT } from "jose";
import type { Keys } from "./keys.ts";

/** The headers to pass a request on with, a token in Authorization; or the answer, 401. */
export type WithRole = (request: Request) => Promise<Headers | Response>;

/**
 * A token in Authorization stays, whoever it belongs to, also beside a secret key. Where there is none, or an API key in its
 * place as supabase-js sends it, the role of `apikey` acts.
 */
export function roleTokens({ publishableKey, secretKey, jwtSecret }: Keys): WithRole {
  const sign = (role: string) =>
    new SignJWT({ role, iss: "supabase" })
      .setProtectedHeader({ alg: "HS256", typ: "JWT" })
      .setIssuedAt()
      .setExpirationTime("10y")
      .sign(new TextEncoder().encode(jwtSecret));
  const tokens = new Map([[publishableKey, sign("anon")], [secretKey, sign("service_role")]]);

  return async (request) => {
    const headers = new Headers(request.headers);
    if (request.method === "OPTIONS") return headers; // a browser's preflight cannot carry a key
    const key = request.headers.get("apikey") ?? new URL(request.url).searchParams.get("apikey");
    if (!key) return refusal("No API key found in request", "No `apikey` request header or url param was found.");
    const token = tokens.get(key);
    if (!token) return refusal("Invalid API key", "Double check your Supabase `apikey`");
    const authorization = request.headers.get("authorization");
    if (!authorization || /^Bearer sb_/i.test(authorization)) headers.set("authorization", `Bearer ${await token}`);
    return headers;
  };
}

function refusal(message: string, hint: string): Response {
  return Response.json({ message, hint }, { status: 401 });
}
