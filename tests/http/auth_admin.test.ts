// auth.admin as a backend uses it through supabase-js, and who may not.
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  apiUrl,
  connect,
  newClient,
  newConversation,
  publishableKey,
  secretKey,
  signUp,
  uuid,
} from "../support/stack.ts";

const admin = newClient(secretKey).auth.admin;
const newEmail = () => `${uuid()}@example.com`;
const password = "correct horse";

const logIn = (email: string, withPassword = password) =>
  newClient().auth.signInWithPassword({ email, password: withPassword });

async function createUser(attributes: object = {}) {
  const email = newEmail();
  const { data, error } = await admin.createUser({ email, password, email_confirm: true, ...attributes });
  if (error) throw error;
  return { ...data.user, email };
}

async function send(method: string, path: string, headers: Record<string, string>, body?: object) {
  const response = await fetch(`${apiUrl}/auth/v1/admin${path}`, {
    method,
    headers: { "content-type": "application/json", ...headers },
    body: body && JSON.stringify(body),
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
}
const asAdmin = { apikey: secretKey, authorization: `Bearer ${secretKey}` };

Deno.test("a created user is shown as GoTrue shows it, and can log in", async () => {
  const user = await createUser({ user_metadata: { name: "Ann", gone: null }, app_metadata: { plan: "free" } });
  const { data: { user: found } } = await admin.getUserById(user.id);
  assertEquals(found, user);
  assertEquals([user.aud, user.role, user.phone, user.is_anonymous], ["authenticated", "authenticated", "", false]);
  assertEquals(user.user_metadata, { name: "Ann", email_verified: true });
  assertEquals(user.app_metadata, { provider: "email", providers: ["email"], plan: "free" });
  assert(user.email_confirmed_at && user.created_at && !user.last_sign_in_at && !("banned_until" in user));
  const [identity] = user.identities!;
  assertEquals([identity.id, identity.user_id, identity.provider], [user.id, user.id, "email"]);
  assertEquals(identity.identity_data, {
    sub: user.id,
    email: user.email,
    email_verified: false,
    phone_verified: false,
  });

  const { data, error } = await logIn(user.email);
  assertEquals([error, data.user?.id], [null, user.id]);
  assertEquals((await logIn(user.email, "wrong password")).error?.code, "invalid_credentials");
});

Deno.test("an address is confirmed only if the backend says so; an id may be given; a password is made up", async () => {
  const id = uuid();
  const unconfirmed = await createUser({ id, email_confirm: undefined });
  assertEquals(unconfirmed.id, id);
  assertEquals((await logIn(unconfirmed.email)).error?.code, "email_not_confirmed");
  await admin.updateUserById(id, { email_confirm: true });
  assertEquals((await logIn(unconfirmed.email)).error, null);

  const hashed = await createUser({ password: undefined, password_hash: await hashOf(unconfirmed.id) });
  assertEquals((await logIn(hashed.email)).error, null);
  const without = await createUser({ password: undefined });
  assertEquals((await logIn(without.email, "")).error?.status, 400);
});

/** What the database keeps of a user's password. */
async function hashOf(id: string): Promise<string> {
  const sql = connect();
  const [{ encrypted_password }] = await sql`select encrypted_password from auth.users where id = ${id}`;
  await sql.end();
  return encrypted_password;
}

Deno.test("what cannot be a user is refused with GoTrue's codes", async () => {
  const taken = await createUser();
  for (
    const [attributes, status, code] of [
      [{ email: taken.email.toUpperCase(), password }, 422, "email_exists"],
      [{ email: "no address", password }, 400, "validation_failed"],
      [{ password }, 400, "validation_failed"],
      [{ email: newEmail(), id: "1" }, 400, "validation_failed"],
      [{ email: newEmail(), password: "x".repeat(73) }, 400, "validation_failed"],
      [{ email: newEmail(), password, password_hash: "$2a$10$" }, 400, "validation_failed"],
      [{ email: newEmail(), password_hash: "$argon2id$v=19$" }, 422, "not_implemented"],
      [{ email: newEmail(), ban_duration: "a while" }, 400, "validation_failed"],
      [{ email: 5 }, 400, "bad_json"],
      [{ phone: "4915112345678" }, 422, "not_implemented"],
    ] as const
  ) {
    const { status: answered, body, headers } = await send("POST", "/users", asAdmin, attributes);
    assertEquals([answered, body.code, body.error_code], [status, status, code], JSON.stringify(attributes));
    assertEquals([typeof body.msg, headers.get("x-sb-error-code")], ["string", code]);
  }
  const sent = await fetch(`${apiUrl}/auth/v1/admin/users`, { method: "POST", headers: asAdmin, body: "{" });
  assertEquals((await sent.json()).error_code, "bad_json");
});

Deno.test("users are listed newest first, a page at a time, with the headers that supabase-js reads", async () => {
  const mark = uuid();
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.unshift((await createUser({ user_metadata: { full_name: `${mark} ${i}` } })).id);

  const { data: newest, error } = await admin.listUsers({ page: 1, perPage: 2 });
  if (error) throw error;
  assertEquals([newest.users.length, newest.aud, newest.nextPage], [2, "authenticated", 2]);
  assert(newest.total >= 5);
  assertEquals((await admin.listUsers()).data.users.length, Math.min(newest.total, 50));

  const pages = await Promise.all(
    [1, 2, 3, 4].map((page) => send("GET", `/users?page=${page}&per_page=2&filter=${mark}`, asAdmin)),
  );
  assertEquals(pages.flatMap(({ body }) => body.users.map(({ id }: { id: string }) => id)), ids);
  assertEquals(pages.map(({ headers }) => headers.get("x-total-count")), ["5", "5", "5", "5"]);
  assertEquals(
    pages[0].headers.get("link"),
    `</admin/users?filter=${mark}&page=2&per_page=2>; rel="next", </admin/users?filter=${mark}&page=3&per_page=2>; rel="last"`,
  );
  assertEquals(pages[2].headers.get("link"), `</admin/users?filter=${mark}&page=3&per_page=2>; rel="last"`);
  assertEquals((await send("GET", "/users?page=x", asAdmin)).body.error_code, "validation_failed");
});

Deno.test("a changed password ends the sessions, a changed address is the one to log in with, metadata is merged", async () => {
  const user = await createUser({ user_metadata: { a: 1, b: 2 } });
  const session = newClient();
  await session.auth.signInWithPassword({ email: user.email, password });
  const email = newEmail();
  const { data, error } = await admin.updateUserById(user.id, {
    email,
    email_confirm: true,
    password: "battery staple",
    user_metadata: { b: null, c: 3 },
    app_metadata: { plan: "pro" },
  });
  assertEquals(error, null);
  assertEquals(data.user!.user_metadata, { a: 1, c: 3, email_verified: true });
  assertEquals(data.user!.app_metadata, { provider: "email", providers: ["email"], plan: "pro" });
  assertEquals([data.user!.email, data.user!.identities![0].identity_data!.email], [email, email]);

  assertEquals((await session.auth.refreshSession()).error?.status, 400);
  assertEquals((await logIn(user.email)).error?.code, "invalid_credentials");
  assertEquals((await logIn(email)).error?.code, "invalid_credentials");
  assertEquals((await logIn(email, "battery staple")).data.user?.id, user.id);

  const { error: weak } = await admin.updateUserById(user.id, { password: "short" });
  assertEquals([weak?.status, weak?.code], [422, "weak_password"]);
});

Deno.test("a banned user neither logs in nor refreshes nor uses their token, until the ban ends", async () => {
  const user = await createUser();
  const client = newClient();
  await client.auth.signInWithPassword({ email: user.email, password });
  const { data } = await admin.updateUserById(user.id, { ban_duration: "1h30m" });
  const hours = (Date.parse((data.user as { banned_until: string }).banned_until) - Date.now()) / 3_600_000;
  assert(hours > 1.4 && hours <= 1.5, `${hours}`);
  assertEquals((await logIn(user.email)).error?.code, "user_banned");
  assertEquals((await client.auth.refreshSession()).error?.code, "user_banned");
  assertEquals((await client.auth.getUser()).error?.code, "user_banned");

  const { data: free } = await admin.updateUserById(user.id, { ban_duration: "none" });
  assert(!("banned_until" in free.user!));
  assertEquals((await client.auth.getUser()).data.user?.id, user.id);
  assertEquals((await logIn(user.email)).error, null);
});

Deno.test("a deleted user cannot log in, and what was theirs is gone", async () => {
  const [user, other] = [await signUp(), await signUp()];
  const id = await newConversation(user, { messages: [{ role: "user", content: "mine" }] });
  const kept = await newConversation(other, { messages: [{ role: "user", content: "theirs" }] });
  const { data, error } = await admin.deleteUser(user.id);
  assertEquals([error, data.user?.email], [null, user.email]);

  const service = newClient(secretKey);
  for (const [conversation, count] of [[id, 0], [kept, 1]] as const) {
    for (const [table, column] of [["conversations", "id"], ["conversation_messages", "conversation_id"]] as const) {
      const rows = await service.from(table).select("*").eq(column as "id", conversation).throwOnError();
      assertEquals(rows.data.length, count, table);
    }
  }
  assertEquals((await user.client.auth.getUser()).error?.status, 403);
  assertEquals((await user.client.auth.refreshSession()).error?.status, 400);
  const { error: gone } = await admin.getUserById(user.id);
  assertEquals([gone?.status, gone?.code], [404, "user_not_found"]);
  assertEquals((await admin.deleteUser(user.id)).error?.code, "user_not_found");
  assertEquals((await other.client.auth.getUser()).data.user?.id, other.id);

  // As at PostgREST, which asks nobody: the token is good for what is left of its hour.
  assertEquals((await user.client.from("conversations").select("id").throwOnError()).data, []);
});

Deno.test("a softly deleted user is unknowable and locked out; the rows stay", async () => {
  const user = await createUser({ user_metadata: { name: "Ann" } });
  const client = newClient();
  await client.auth.signInWithPassword({ email: user.email, password });
  const { data: [conversation] } = await client.from("conversations").insert({ title: "kept" }).select().throwOnError();
  assertEquals((await admin.deleteUser(user.id, true)).error, null);

  const { data } = await admin.getUserById(user.id);
  assertMatch(data.user!.email!, /^[\w-]{43}$/);
  assertEquals([data.user!.user_metadata, data.user!.app_metadata], [{}, {}]);
  assert((data.user as { deleted_at?: string }).deleted_at);
  assertEquals((await logIn(user.email)).error?.code, "invalid_credentials");
  assertEquals((await client.auth.refreshSession()).error?.status, 400);
  const kept = await newClient(secretKey).from("conversations").select("title").eq("id", conversation.id)
    .throwOnError();
  assertEquals(kept.data, [{ title: "kept" }]);
  await createUser({ email: user.email }); // the address is free again
});

Deno.test("nobody but a backend is an administrator", async () => {
  const user = await signUp();
  const path = `/users/${user.id}`;
  const token = `Bearer ${user.token}`;
  const callers: [string, Record<string, string>, number, string | undefined][] = [
    ["a backend", { apikey: secretKey }, 200, undefined],
    ["a backend, by supabase-js", asAdmin, 200, undefined],
    ["the publishable key", { apikey: publishableKey }, 403, "not_admin"],
    [
      "supabase-js in a browser",
      { apikey: publishableKey, authorization: `Bearer ${publishableKey}` },
      403,
      "not_admin",
    ],
    ["a user", { apikey: publishableKey, authorization: token }, 403, "not_admin"],
    ["a user, beside the secret key", { apikey: secretKey, authorization: token }, 403, "not_admin"],
    ["a forged token", { apikey: publishableKey, authorization: `${token.slice(0, -4)}AAAA` }, 403, "bad_jwt"],
    ["a wrong key", { apikey: "sb_secret_wrong" }, 401, undefined],
    ["nobody", {}, 401, undefined],
  ];
  for (const [who, headers, status, code] of callers) {
    for (const [method, body] of [["GET", undefined], ["PUT", {}]] as const) {
      const answer = await send(method, path, headers, body);
      assertEquals([answer.status, answer.body.error_code], [status, code], `${method} by ${who}`);
    }
    if (status === 200) continue;
    for (const [method, path] of [["GET", "/users"], ["POST", "/users"], ["DELETE", `/users/${user.id}`]]) {
      assertEquals((await send(method, path, headers, method === "GET" ? undefined : {})).status, status, who);
    }
  }
  assertEquals((await admin.getUserById(user.id)).data.user?.email, user.email, "still there");
  assertEquals((await send("GET", "/users/1", asAdmin)).status, 404);
});

Deno.test("what the local Auth has not says so", async () => {
  const { error } = await admin.generateLink({ type: "magiclink", email: newEmail() });
  assertEquals([error?.status, error?.code], [422, "not_implemented"]);
  assertMatch(error!.message, /POST \/auth\/v1\/admin\/generate_link/);
});

Deno.test("a refresh token that was used twice ends its session", async () => {
  const user = await signUp();
  const first = (await user.client.auth.getSession()).data.session!.refresh_token;
  const refresh = async (refresh_token: string) => await newClient().auth.refreshSession({ refresh_token });
  const second = (await refresh(first)).data.session!.refresh_token;
  // A client that did not get the answer asks again, and gets the same.
  assertEquals((await refresh(first)).data.session!.refresh_token, second);
  const third = (await refresh(second)).data.session!.refresh_token;
  assertEquals((await refresh(first)).error?.code, "refresh_token_already_used");
  assertEquals((await refresh(third)).error?.code, "refresh_token_already_used");
});
