// Who a request is, by all that may stand in Authorization beside what may stand in apikey.
import { assertEquals } from "@std/assert";
import { decodeJwt, decodeProtectedHeader, SignJWT } from "jose";
import { newConversation, publishableKey, request, secretKey, signUp } from "../support/stack.ts";

const alice = await signUp();
const bob = await signUp();
const ids = { alice: await newConversation(alice), bob: await newConversation(bob) };
const { exp: _, ...claims } = decodeJwt(alice.token);
const kid = decodeProtectedHeader(alice.token).kid ?? "local";

/** What the local stack signs with. The Docker stack's is asymmetric and its own: those tokens stay out there. */
const secret = new TextEncoder().encode(Deno.env.get("LOCAL_JWT_SECRET"));
const now = Math.floor(Date.now() / 1000);
const sign = (payload: Record<string, unknown>, key = secret, header: object = { kid }) =>
  new SignJWT(payload).setProtectedHeader({ alg: "HS256", ...header }).sign(key);
/** The keys of a project in their old form, as its gateway signs them: without `kid`, for nobody. */
const keyToken = (role: string, key?: Uint8Array<ArrayBuffer>) =>
  sign({ iss: "supabase-demo", role, exp: now + 3600 }, key, {});

const unknownKey = new TextEncoder().encode("this is not the key that the stack signs its tokens with");
const tokens: Record<string, string | undefined> = {
  "nothing": undefined,
  "a service_role token": secret.length > 0 ? await keyToken("service_role") : undefined,
  "a forged service_role token": await keyToken("service_role", unknownKey),
  "an anon token": secret.length > 0 ? await keyToken("anon") : undefined,
  "the secret key": secretKey,
  "a made-up secret key": "sb_secret_made_up",
  "the publishable key": publishableKey,
  "a user's token": alice.token,
  "an expired user's token": secret.length > 0 ? await sign({ ...claims, exp: now - 60 }) : undefined,
  "a forged user's token": await sign({ ...claims, exp: now + 3600 }, unknownKey),
  "a token of a role of one's own": secret.length > 0
    ? await sign({ ...claims, role: "moderator", exp: now + 3600 })
    : undefined,
  "no token at all": "nonsense",
};
const apikeys: Record<string, string | undefined> = {
  "no key": undefined,
  "the publishable key": publishableKey,
  "the secret key": secretKey,
  "a made-up secret key": "sb_secret_made_up",
};

/** Who each of them is beside each of those keys: alice, the backend acting for bob, or nobody (401). */
const EXPECTED: Record<string, Record<string, "alice" | "backend" | "nobody">> = {
  "no key": { "a user's token": "alice" },
  "the publishable key": { "a user's token": "alice" },
  "a made-up secret key": { "a user's token": "alice" },
  "the secret key": {
    "nothing": "backend", // curl
    "the secret key": "backend", // supabase-js, made with it
    "a service_role token": "backend", // what a gateway makes of both
    "a forged service_role token": "backend", // it says no more than the key beside it
    "an anon token": "backend",
    "the publishable key": "backend",
    "a made-up secret key": "backend",
    "a user's token": "alice",
  },
};

async function whoIs(authorization?: string, apikey?: string, more: Record<string, string> = {}) {
  const headers = { ...(authorization && { authorization }), ...(apikey && { apikey }), "x-user-id": bob.id, ...more };
  const { status, body } = await request("GET", "/conversations", { headers });
  if (status === 401) return "nobody";
  assertEquals(status, 200);
  const seen = body.data.map(({ id }: { id: string }) => id);
  assertEquals(seen.length, 1);
  return seen[0] === ids.alice ? "alice" : seen[0] === ids.bob ? "backend" : "somebody";
}

for (const [key, apikey] of Object.entries(apikeys)) {
  for (const [name, token] of Object.entries(tokens)) {
    const who = EXPECTED[key][name] ?? "nobody";
    const ignore = token === undefined && name !== "nothing";
    Deno.test(`${name} in Authorization and ${key} in apikey: ${who}`, { ignore }, async () => {
      assertEquals(await whoIs(token && `Bearer ${token}`, apikey), who);
    });
  }
}

Deno.test("the scheme's letters are large or small, and what a gateway says in sb-api-key is nobody's word", async () => {
  assertEquals(await whoIs(`bearer ${alice.token}`, secretKey), "alice");
  assertEquals(await whoIs(`BEARER ${alice.token}`), "alice");
  assertEquals(await whoIs(undefined, publishableKey, { "sb-api-key": `Bearer ${secretKey}` }), "nobody");
  assertEquals(
    await whoIs(undefined, secretKey, { "sb-api-key": `Bearer ${await keyToken("service_role", unknownKey)}` }),
    "backend",
  );
  assertEquals(await whoIs(alice.token, secretKey), "backend", "no scheme, no token");
});

Deno.test("an OpenAI client is a backend with the secret key as its token, whatever key is beside it", async () => {
  for (
    const [authorization, apikey, status] of [
      [`Bearer ${secretKey}`, undefined, 200],
      [`Bearer ${secretKey}`, publishableKey, 200],
      [`Bearer ${tokens["a forged service_role token"]}`, secretKey, 200],
      ["Bearer sb_secret_made_up", undefined, 401],
      [`Bearer ${tokens["a forged service_role token"]}`, publishableKey, 401],
    ] as const
  ) {
    const headers = { authorization, ...(apikey && { apikey }) };
    const path = `/openai/v1/conversations/conv_${ids.bob.replaceAll("-", "")}`;
    assertEquals((await request("GET", path, { headers })).status, status, `${authorization} ${apikey}`);
  }
});

Deno.test("a user who knows the secret key's place, but not the key, stays who they are", async () => {
  for (const apikey of [publishableKey, secretKey]) {
    const headers = { authorization: `Bearer ${alice.token}`, apikey, "x-user-id": bob.id };
    assertEquals((await request("GET", `/conversations/${ids.bob}`, { headers })).status, 404);
    assertEquals((await request("GET", `/conversations/${ids.alice}`, { headers })).status, 200);
    assertEquals((await request("DELETE", "/users/me?confirm=all", { headers })).body.code, "forbidden");
  }
});
