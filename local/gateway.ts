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

  /** A function answers preflights itself, as it has to on the platform: if it can. */
  async function handle(request: Request): Promise<Response> {
    const service = new URL(request.url).pathname.split("/")[1];
    if (isPreflight(request) && service !== "functions") return allow(request);
    const response = await route(request).catch(() =>
      failure(503, "SERVICE_UNAVAILABLE", "The local stack has not started or is stopping")
    );
    return isPreflight(request) && !response.ok ? allow(request) : readable(response, service);
  }

  const stop = new AbortController();
  const server = Deno.serve({
    hostname,
    port,
    signal: stop.signal,
    onListen: () => {},
  }, handle);
  return {
    port: server.addr.port,
    async [Symbol.asyncDispose]() {
      stop.abort(); // a graceful shutdown would wait for event streams
      await server.finished;
    },
  };
}

/** https://fetch.spec.whatwg.org/#cors-preflight-request */
function isPreflight({ method, headers }: Request): boolean {
  return method === "OPTIONS" && headers.has("origin") && headers.has("access-control-request-method");
}

/** Lets a page of any origin send what it asks for: refused to send, it could not be told the reason of an error. */
function allow({ headers }: Request): Response {
  const asked = headers.get("access-control-request-headers");
  return new Response(null, {
    status: 204,
    headers: {
      "access-control-allow-origin": "*",
      "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
      ...(asked && { "access-control-allow-headers": asked }),
      vary: "access-control-request-headers",
    },
  });
}

/** What pages may read beside the body, as PostgREST and the platform's Auth say. */
const EXPOSED_HEADERS: Record<string, string> = {
  rest: "Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, Transfer-Encoding, " +
    "Range-Unit",
  auth: "X-Total-Count, Link, X-Supabase-Api-Version",
};

/** Lets a page of any origin read the answer, whoever made it. */
function readable(response: Response, service: string): Response {
  const exposed = EXPOSED_HEADERS[service];
  if (!exposed && response.headers.has("access-control-allow-origin")) return response;
  const answer = response.url ? new Response(response.body, response) : response; // what fetch returns cannot be changed
  answer.headers.set("access-control-allow-origin", "*");
  if (exposed) answer.headers.set("access-control-expose-headers", exposed);
  return answer;
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
