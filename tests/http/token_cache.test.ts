// A verified token is remembered for a minute: the function runs in this process, with signing keys of the test's own.
import { assertEquals } from "@std/assert";
import { SignJWT } from "jose";
import { countCalls } from "../support/calls.ts";

const kid = "test";
const sub = crypto.randomUUID();
const [key, otherKey] = Array.from({ length: 2 }, () => crypto.getRandomValues(new Uint8Array(32)));
const now = () => Math.floor(Date.now() / 1000);

/** No two are the same, unless `jti` is. */
const sign = (exp: number, secret = key, jti: string = crypto.randomUUID()) =>
  new SignJWT({ role: "authenticated", aud: "authenticated", sub, exp, jti }).setProtectedHeader({ alg: "HS256", kid })
    .sign(secret);

/** What the platform tells a function of the keys that tokens are signed with. */
function publish(secret: Uint8Array): void {
  const k = secret.toBase64({ alphabet: "base64url", omitPadding: true });
  Deno.env.set("SUPABASE_JWKS", JSON.stringify({ keys: [{ kty: "oct", alg: "HS256", kid, k }] }));
}

/** Runs with the function, which is told nothing but empty pages by a database that counts its calls. */
async function withFunction(run: (statusWith: (token: string) => Promise<number>) => Promise<void>): Promise<void> {
  await using counted = await countCalls(() => Response.json({ data: [], has_more: false }));
  try {
    publish(key);
    const { app } = await import("../../supabase/functions/conversations/app.ts");
    await run(async (token) => {
      const before = counted.calls.length;
      const response = await app.request("/conversations", { headers: { authorization: `Bearer ${token}` } });
      await response.body?.cancel();
      assertEquals(counted.calls.length - before, response.ok ? 1 : 0, "a refused token does not reach the database");
      return response.status;
    });
  } finally {
    Deno.env.delete("SUPABASE_JWKS");
  }
}

/** Moves the clock on meanwhile: of `Date.now`, not of `new Date()`. */
async function after<T>(ms: number, run: () => Promise<T>): Promise<T> {
  const real = Date.now;
  Date.now = () => real() + ms;
  try {
    return await run();
  } finally {
    Date.now = real;
  }
}

Deno.test("a key that was withdrawn is noticed within a minute, and at once by tokens not seen before", async () => {
  await withFunction(async (statusWith) => {
    const token = await sign(now() + 3600);
    assertEquals(await statusWith(token), 200);
    publish(otherKey);
    assertEquals(await statusWith(token), 200, "remembered");
    assertEquals(await statusWith(await sign(now() + 3600)), 401);
    assertEquals(await after(59_000, () => statusWith(token)), 200);
    assertEquals(await after(61_000, () => statusWith(token)), 401);
  });
});

Deno.test("a token that expires is refused from then on, although it was accepted before", async () => {
  await withFunction(async (statusWith) => {
    const token = await sign(now() + 2);
    assertEquals(await statusWith(token), 200);
    await new Promise((resolve) => setTimeout(resolve, 2100));
    assertEquals(await statusWith(token), 401);
    assertEquals(await statusWith(await sign(now() + 3600)), 200);
  });
});

Deno.test("a forged token is refused, although the real one with the same payload was accepted before", async () => {
  await withFunction(async (statusWith) => {
    const [exp, jti] = [now() + 3600, crypto.randomUUID()];
    const token = await sign(exp, key, jti);
    assertEquals(await statusWith(token), 200);
    assertEquals(await statusWith(await sign(exp, otherKey, jti)), 401);
    const [header, payload] = token.split(".");
    assertEquals(await statusWith(`${header}.${payload}.`), 401);
    assertEquals(await statusWith(`${header}.${payload}`), 401);
    assertEquals(await statusWith(token), 200);
  });
});

Deno.test("what was refused is not remembered as refused", async () => {
  await withFunction(async (statusWith) => {
    publish(otherKey);
    const token = await sign(now() + 3600);
    assertEquals(await statusWith(token), 401);
    publish(key);
    assertEquals(await statusWith(token), 200);
  });
});
