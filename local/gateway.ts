/** The one address that clients know: passes /rest/v1, /auth/v1 and /functions/v1 on to whoever serves them. */
import { jwtVerify, SignJWT } from "jose";
import type { Functions } from "./functions.ts";
import { failure } from "./responses.ts";
import type { RestApi } from "./rest.ts";

export interface Services {
  rest: RestApi;
  functions: Functions;
  home: (request: Request) => Promise<Response>;
}

export interface Gateway extends AsyncDisposable {
  port: number;
}

/** Listens at once, so that the port is known and taken; requests wait until the services are there. */
export function startGateway(
  hostname: string,
  port: number,
  jwtSecret: string,
  services: Promise<Services>,
): Gateway {
  const key = new TextEncoder().encode(jwtSecret);

  async function route(request: Request): Promise<Response> {
    const { pathname, search } = new URL(request.url);
    const { rest, functions, home } = await services;
    const [, service, version, name] = pathname.split("/");
    if (service === "" || service === "docs") return await home(request);
    if (version === "v1" && (service === "rest" || service === "auth")) return await rest.fetch(request);
    if (version === "v1" && service === "functions") {
      const path = pathname.slice("/functions/v1".length) + search;
      const answer = functions.fetch(name, path, await withKeyId(request, key));
      return await answer ?? failure(404, "NOT_FOUND", "Requested function was not found");
    }
    return failure(404, "NOT_FOUND", "Requested path was not found");
  }

  const stop = new AbortController();
  const server = Deno.serve({
    hostname,
    port,
    signal: stop.signal,
    onListen: () => {},
    onError: () => failure(503, "SERVICE_UNAVAILABLE", "The local stack has not started or is stopping"),
  }, route);
  return {
    port: server.addr.port,
    async [Symbol.asyncDispose]() {
      stop.abort(); // a graceful shutdown would wait for event streams
      await server.finished;
    },
  };
}

/** The key id of the JSON Web Key that functions verify tokens with. */
const KEY_ID = "local";

/** What functions get as SUPABASE_JWKS. */
export function jwks(jwtSecret: string): string {
  const k = new TextEncoder().encode(jwtSecret).toBase64({ alphabet: "base64url", omitPadding: true });
  return JSON.stringify({ keys: [{ kty: "oct", alg: "HS256", kid: KEY_ID, k }] });
}

/**
 * The platform's tokens name the key that signed them and functions insist on it; those of @supabase/lite do not.
 * A good token is signed once more with the name. A bad one is passed on as it is, for the function to refuse.
 */
async function withKeyId(request: Request, key: Uint8Array): Promise<Request> {
  const token = request.headers.get("authorization")?.match(/^Bearer (.+)$/i)?.[1];
  if (!token) return request;
  try {
    const { payload } = await jwtVerify(token, key, { algorithms: ["HS256"] });
    const signed = await new SignJWT(payload).setProtectedHeader({ alg: "HS256", typ: "JWT", kid: KEY_ID }).sign(key);
    const headers = new Headers(request.headers);
    headers.set("authorization", `Bearer ${signed}`);
    return new Request(request, { headers });
  } catch {
    return request;
  }
}
