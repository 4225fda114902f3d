import { assertEquals } from "@std/assert";
import { decodeJwt, decodeProtectedHeader, SignJWT, UnsecuredJWT } from "jose";
import { connect, publishableKey, request, signUp } from "../support/stack.ts";

const alice = await signUp();
const claims = decodeJwt(alice.token);
/** The key id under which the functions know the signing key of this stack. */
const kid = decodeProtectedHeader(alice.token).kid ?? "local";
const wrongKey = new TextEncoder().encode("this is not the key that the stack signs its tokens with");

async function statusWith(token: string): Promise<number> {
  const headers = { apikey: publishableKey, authorization: `Bearer ${token}` };
  return (await request("GET", "/conversations", { headers })).status;
}

/** What the local stack signs with. The Docker stack's is asymmetric and its own: two tests stay out there. */
const secret = Deno.env.get("LOCAL_JWT_SECRET");
const sign = (payload: Record<string, unknown>, header = { alg: "HS256", kid }) =>
  new SignJWT(payload).setProtectedHeader(header).sign(new TextEncoder().encode(secret));

Deno.test("a real token is accepted", async () => {
  assertEquals(await statusWith(alice.token), 200);
});

Deno.test("alg none is refused", async () => {
  assertEquals(await statusWith(new UnsecuredJWT(claims).encode()), 401);
});

Deno.test("the right key id with the wrong key is refused", async () => {
  const forged = await new SignJWT(claims).setProtectedHeader({ alg: "HS256", kid }).sign(wrongKey);
  assertEquals(await statusWith(forged), 401);
});

Deno.test("a token that was tampered with is refused", async () => {
  const [header, , signature] = alice.token.split(".");
  const payload = btoa(JSON.stringify({ ...claims, sub: crypto.randomUUID() })).replace(/=+$/, "");
  assertEquals(await statusWith(`${header}.${payload}.${signature}`), 401);
  assertEquals(await statusWith("not-a-token"), 401);
});

Deno.test("an expired token is refused, and only because it expired", { ignore: !secret }, async () => {
  const now = Math.floor(Date.now() / 1000);
  assertEquals(await statusWith(await sign({ ...claims, exp: now + 60 })), 200);
  assertEquals(await statusWith(await sign({ ...claims, exp: now - 60 })), 401);
});

Deno.test("a signed token of another role is nobody's access token", { ignore: !secret }, async () => {
  for (const role of ["anon", "service_role", "postgres"]) {
    assertEquals(await statusWith(await sign({ ...claims, role })), 401, role);
  }
});

Deno.test("a token that Auth made for somebody else is refused", { ignore: !secret }, async () => {
  for (
    const [aud, status] of [["authenticated", 200], [["other", "authenticated"], 200], ["other", 401], [undefined, 401]]
  ) {
    assertEquals(await statusWith(await sign({ ...claims, aud })), status, `${aud}`);
  }
});

Deno.test("a token whose user was deleted is 401 on every function that writes", async () => {
  const gone = await signUp();
  const writes: [string, string, object][] = [
    ["POST", "/conversations", {}],
    ["POST", "/openai/v1/conversations", {}],
    ["PUT", "/responses/r", { input: "x", output: [], model: "m", provider: "p" }],
    ["POST", "/sessions", {}],
    ["POST", "/documents/things/insert_one", { document: {} }],
  ];
  const statuses = () =>
    Promise.all(writes.map(async ([method, path, body]) => (await gone.request(method, path, { body })).status));
  assertEquals(await statuses(), [201, 200, 201, 201, 201]);
  const sql = connect();
  await sql`delete from auth.users where id = ${gone.id}`;
  await sql.end();
  assertEquals(await statuses(), [401, 401, 401, 401, 401]);
});
