/** Requests rewritten so that @supabase/lite makes of them what PostgREST makes of the original. */
import type { IntrospectResult } from "@supabase/lite";
import { decodeJwt, jwtVerify, SignJWT } from "jose";
import { DEFAULT } from "./inserts.ts";

type Json = Record<string, unknown>;

/** PostgREST's own (src/library/PostgREST/Auth/Jwt.hs). */
const LEEWAY_SECONDS = 30;

/** A token that expired a moment ago is taken for as long as PostgREST takes it. */
export async function withLeeway(request: Request, secret: Uint8Array): Promise<Request> {
  const token = request.headers.get("authorization")?.match(/^Bearer (ey\S+)$/i)?.[1];
  const now = Date.now() / 1000;
  try {
    if (!token || decodeJwt(token).exp! > now) return request;
    const { payload } = await jwtVerify(token, secret, { algorithms: ["HS256"], clockTolerance: LEEWAY_SECONDS });
    const extended = new SignJWT({ ...payload, exp: Math.ceil(now) + LEEWAY_SECONDS });
    const headers = new Headers(request.headers);
    headers.set("authorization", `Bearer ${await extended.setProtectedHeader({ alg: "HS256" }).sign(secret)}`);
    return new Request(request, { headers });
  } catch {
    return request; // refused where every token is
  }
}

/**
 * A JSON value stays what it is: a string in a `jsonb` column or argument is a JSON string, even where it would parse, and
 * numbers are stored as they are written. A column that a row of a bulk insert leaves out is null, or with
 * `Prefer: missing=default` its default.
 */
export async function withExactPayload(request: Request, catalogue: IntrospectResult): Promise<Request> {
  if (!/^(POST|PATCH|PUT)$/.test(request.method) || !isJson(request)) return request;
  const text = await request.text();
  const { pathname, searchParams } = new URL(request.url);
  const [, , , relation, rpc] = pathname.split("/");
  try {
    const payload = parseExactly(text);
    const inexact = INEXACT.test(text);
    let changed = false;
    /** JSON text instead of the values that the library would change. */
    const encode = (row: Json, names: string[], times: number) => {
      for (const name of names) {
        if (!inexact && typeof row[name] !== "string" || row[name] === undefined || row[name] === null) continue;
        for (let i = 0; i < times; i++) row[name] = JSON.stringify(row[name]);
        changed = true;
      }
    };
    if (relation === "rpc") encode(payload as Json, jsonArguments(catalogue, rpc, payload as Json), 1);
    else {
      const rows = (Array.isArray(payload) ? payload : [payload]) as Json[];
      const jsonColumns = catalogue.columns.filter((c) => c.table === relation && isJsonType(c.type)).map((c) =>
        c.name
      );
      const missing = /\bmissing=default\b/.test(request.headers.get("prefer") ?? "") ? DEFAULT : null;
      const columns = request.method === "POST" ? listed(searchParams.get("columns") ?? "") : [];
      for (const row of rows) {
        encode(row, jsonColumns, 2); // once more than for functions: the library parses what it finds there
        const left = columns.filter((name) => !(name in row));
        for (const name of left) row[name] = missing;
        changed ||= left.length > 0;
      }
    }
    return replaceBody(request, changed ? JSON.stringify(payload) : text);
  } catch {
    return replaceBody(request, text); // no JSON: refused as it is
  }
}

function jsonArguments({ functions = [] }: IntrospectResult, name: string, values: Json): string[] {
  const given = Object.keys(values);
  const called = functions.find((f) =>
    f.schema === "public" && f.name === name && given.every((argument) => f.arg_names.includes(argument))
  );
  return called?.arg_names.filter((_, i) => isJsonType(called.arg_types[i])) ?? [];
}

/** `a,"b"` */
function listed(columns: string): string[] {
  return [...columns.matchAll(/"([^"]*)"|([^",]+)/g)].map(([, quoted, plain]) => quoted ?? plain.trim());
}

const isJsonType = (type: string | undefined) => /^jsonb?$/i.test(type ?? "");
const isJson = (request: Request) => /^application\/(\S+\+)?json\b/.test(request.headers.get("content-type") ?? "");

function replaceBody({ url, method, headers, signal }: Request, body: string): Request {
  const without = new Headers(headers);
  without.delete("content-length");
  return new Request(url, { method, headers: without, signal, body });
}

/** JSON text with a number in it that JavaScript would round or print otherwise. May be wrong about what strings hold. */
const INEXACT = /(?:^|[:,[\s])-?(?:\d{16,}|\d+\.(?:\d*0|\d{16,})|[\d.]+[eE][+-]?\d+)(?=[\s,\]}]|$)/;

interface ExactJson {
  parse(text: string, reviver: (key: string, value: unknown, context: { source?: string }) => unknown): unknown;
  rawJSON(text: string): unknown;
}

/** JSON.parse, but a number that would be printed otherwise keeps its text, for JSON.stringify alone. */
export function parseExactly(text: string): unknown {
  if (!INEXACT.test(text)) return JSON.parse(text);
  const { parse, rawJSON } = JSON as unknown as ExactJson;
  return parse(
    text,
    (_, value, { source }) => typeof value === "number" && `${value}` !== source ? rawJSON(source!) : value,
  );
}
