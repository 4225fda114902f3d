// Everything of mine, gone: at once where it is little, in steps where it is much.
import { assert, assertEquals } from "@std/assert";
import {
  type Answer,
  backend,
  connect,
  newConversation,
  publishableKey,
  request,
  signUp,
  type TestUser,
  uuid,
} from "../support/stack.ts";

const sql = connect();
const JOB = "do $job$ begin loop exit when not private.erasure_step(); commit; end loop; end; $job$";
const messages = [{ role: "user", content: "secret" }, { role: "assistant", content: "answer" }];

const eraseAll = (user: TestUser): Promise<Answer> => user.request("DELETE", "/conversations?confirm=all");

/** Conversations as the owner of the table writes them, `messages` in each, and a fork of every tenth. */
async function fill(user: TestUser, conversations: number, messages: number): Promise<void> {
  await sql`
    with made as (
      insert into conversations (user_id, title, last_sequence_order)
      select ${user.id}, 'secret', ${messages} from generate_series(1, ${conversations}::int)
      returning id
    ),
    filled as (
      insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
      select m.id, ${user.id}, n, 'user', 'message ' || n from made m, generate_series(1, ${messages}::int) n
    )
    select`;
  await sql`
    insert into conversations (user_id, parent_id, fork_sequence, last_sequence_order)
    select user_id, id, 1, 1 from conversations where user_id = ${user.id} limit ${Math.floor(conversations / 10)}`;
  await sql`
    insert into conversation_states (
      user_id, response_id, conversation_id, after_sequence, input_sequence, sequence_order, model, provider, request_hash
    )
    select user_id, 'resp_' || id, id, 0, 1, 2, 'm', 'p', ''
    from conversations where user_id = ${user.id} and parent_id is null limit ${Math.floor(conversations / 10)}`;
}

const left = async (user: TestUser): Promise<number> =>
  (await sql`
    select ((select count(*) from conversations where user_id = ${user.id})
      + (select count(*) from conversation_messages where user_id = ${user.id})
      + (select count(*) from conversation_states where user_id = ${user.id})
      + (select count(*) from private.prune_queue where user_id = ${user.id}))::int as n`)[0].n;

/** What the job does, until a receipt says that it is done. The job itself may be at it as well. */
async function finish(read: () => Promise<Answer>): Promise<Answer["body"]> {
  for (let i = 0; i < 1000; i++) {
    await sql.unsafe(JOB).simple();
    const { status, body } = await read();
    assertEquals(status, 200);
    if (body.finished_at) return body;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("The erasure does not end.");
}

Deno.test("all of mine: pinned ones, forks and responses go at once, what is not asked for stays", async () => {
  const [user, other] = [await signUp(), await signUp()];
  const { data: video } = await user.client.from("videos").insert({ title: "v" }).select().single();
  const id = await newConversation(user, { title: "secret", video_id: video!.id, messages });
  await user.request("PATCH", `/conversations/${id}`, { body: { pinned: true } });
  const fork = (await user.request("POST", `/conversations/${id}/fork`, { body: { at: 1 } })).body.id;
  await user.request("POST", `/conversations/${fork}/messages`, { body: { messages } });
  const parent = await newConversation(user, { messages });
  await user.request("POST", `/conversations/${parent}/fork`, { body: { at: 2 } });
  assertEquals((await user.request("DELETE", `/conversations/${parent}`)).status, 204); // a tombstone with a fork
  const response = { input: "secret", output: [], model: "m", provider: "p" };
  assertEquals((await user.request("PUT", "/responses/r1", { body: response })).status, 201);
  const session = (await user.request("POST", "/sessions", { body: { conversation_id: id } })).body.id;
  const kept = await newConversation(other, { messages });
  await other.request("PUT", "/responses/r1", { body: response });

  const { status, body, headers } = await eraseAll(user);
  assertEquals(status, 202, JSON.stringify(body));
  assertEquals(headers.get("location"), `/functions/v1/conversations/erasures/${body.id}`);
  assert(headers.get("access-control-expose-headers")!.includes("location"));
  assert(body.finished_at);
  assertEquals([body.scope, body.error], ["conversations", null]);
  assertEquals(body.removed, {
    conversations: 5,
    conversation_messages: 7,
    conversation_states: 1,
    response_conversations: 1,
  });
  assertEquals(await left(user), 0);
  assertEquals((await user.request("GET", "/conversations")).body.data, []);
  assertEquals((await user.request("GET", `/conversations/${id}`)).status, 404);
  assertEquals((await user.request("GET", "/responses/r1")).status, 404);
  assertEquals((await user.request("GET", `/sessions/${session}`)).body.conversation_id, null);
  assertEquals((await user.client.from("videos").select("id")).data, [{ id: video!.id }]);

  // Other users': untouched.
  assertEquals((await other.request("GET", `/conversations/${kept}/messages`)).body.data.length, 2);
  assertEquals((await other.request("GET", "/responses/r1")).status, 200);

  // The receipt is its owner's, and a backend's.
  const receipt = `/conversations/erasures/${body.id}`;
  assertEquals((await user.request("GET", receipt)).body, body);
  assertEquals((await backend(user.id)("GET", receipt)).body, body);
  assertEquals((await backend()("GET", receipt)).body, body);
  for (const stranger of [other.request, backend(other.id)]) {
    const { status, body } = await stranger("GET", receipt);
    assertEquals([status, body.code], [404, "erasure_not_found"]);
  }
  assertEquals((await backend()("GET", `/users/erasures/${body.id}`)).status, 404);

  // The next one finds nothing.
  const again = await eraseAll(user);
  assertEquals([again.status, again.body.removed], [202, {}]);
  assert(again.body.finished_at && again.body.id !== body.id);
});

Deno.test("nothing is erased without the word, nor by a backend that acts for nobody", async () => {
  const user = await signUp();
  const id = await newConversation(user, { messages });
  for (const query of ["", "?confirm=", "?confirm=ALL", "?confirm=all&confirm=all", "?confirm=all&scope=user"]) {
    const { status, body } = await user.request("DELETE", `/conversations${query}`);
    assertEquals([status, body.code], [400, "invalid_request"], query);
  }
  const nobody = await backend()("DELETE", "/conversations?confirm=all");
  assertEquals([nobody.status, nobody.body.code], [400, "user_id_required"]);
  const unknown = await backend(uuid())("DELETE", "/conversations?confirm=all");
  assertEquals([unknown.status, unknown.body.code], [404, "user_not_found"]);
  assertEquals((await user.request("GET", `/conversations/${id}/messages`)).body.data.length, 2);
  // The positive control.
  assertEquals((await backend(user.id)("DELETE", "/conversations?confirm=all")).status, 202);
  assertEquals((await user.request("GET", `/conversations/${id}`)).status, 404);
});

Deno.test("1,200 conversations with 30,000 messages go in steps, and what comes after the request stays", async () => {
  const [user, other] = [await signUp(), await signUp()];
  await fill(user, 1200, 25);
  await fill(other, 10, 5);
  const [{ id: held }] = await sql`
    select c.id from conversations c
    where c.user_id = ${user.id} and exists (select from conversation_states s where s.conversation_id = c.id) limit 1`;
  const holder = connect();
  let receipt = "";
  await holder.begin(async (tx) => {
    await tx`select from conversations where id = ${held} for no key update`;
    const first = await eraseAll(user);
    assertEquals([first.status, first.body.finished_at], [202, null]);
    receipt = `/conversations/erasures/${first.body.id}`;
    assertEquals((await user.request("GET", receipt)).body.id, first.body.id);
    for (let i = 0; i < 30; i++) {
      await sql`select private.advance_erasure(${first.body.id}, '200 milliseconds')`;
    }
    // What somebody writes to holds up itself alone, and nothing is removed before everything is hidden.
    const { data } = (await user.request("GET", "/conversations?limit=1000")).body;
    assertEquals(data.map((conversation: { id: string }) => conversation.id), [held]);
    assertEquals((await user.request("GET", receipt)).body.removed, { conversation_states: 119 });
  });
  await holder.end();

  const later = await newConversation(user, { messages });
  const stored = await user.request("PUT", "/responses/later", {
    body: { input: "x", output: [], model: "m", provider: "p" },
  });
  assertEquals(stored.status, 201);
  const { removed, error } = await finish(() => user.request("GET", receipt));
  assertEquals([removed, error], [
    { conversations: 1320, conversation_messages: 30_000, conversation_states: 120 },
    null,
  ]);
  assertEquals((await user.request("GET", `/conversations/${later}/messages`)).body.data.length, 2);
  assertEquals((await user.request("GET", "/responses/later")).status, 200);
  assertEquals(await left(user), 6, "two conversations, three messages and a response");
  assertEquals(await left(other), 11 + 50 + 1);
  assertEquals(
    (await sql`select from private.erasure_conversations where erasure_id = ${receipt.slice(-36)}`).length,
    0,
  );
});

Deno.test("a repeated request takes on what is new, under the same receipt", async () => {
  const user = await signUp();
  const held = await newConversation(user, { messages });
  const holder = connect();
  await holder.begin(async (tx) => {
    await tx`select from conversations where id = ${held} for no key update`;
    const first = await eraseAll(user);
    const later = await newConversation(user, { messages });
    const second = await eraseAll(user);
    assertEquals([second.status, second.body.id, second.body.finished_at], [202, first.body.id, null]);
    assertEquals((await user.request("GET", `/conversations/${later}`)).status, 404);
  });
  await holder.end();
  const last = await eraseAll(user);
  assertEquals([last.body.removed, !!last.body.finished_at], [{ conversations: 2, conversation_messages: 4 }, true]);
  assertEquals(await left(user), 0);
});

Deno.test("a fork or a response that is made of what is being erased goes with it", async () => {
  const user = await signUp();
  const id = await newConversation(user, { messages });
  const body = { input: "x", output: [], model: "m", provider: "p" };
  await user.request("PUT", "/responses/r1", { body });
  const holder = connect();
  const [fork, append, response] = await holder.begin(async (tx) => {
    await tx`select from conversations where user_id = ${user.id} for no key update`;
    assertEquals((await eraseAll(user)).body.finished_at, null);
    return [
      await user.request("POST", `/conversations/${id}/fork`, { body: { at: 1 } }),
      user.request("POST", `/conversations/${id}/messages`, { body: { messages } }),
      user.request("PUT", "/responses/r2", { body: { ...body, previous_response_id: "r1" } }),
    ];
  });
  await holder.end();
  assertEquals([fork.status, (await append).status, (await response).status], [201, 201, 201]);
  const { body: { removed, finished_at } } = await eraseAll(user);
  assert(finished_at);
  assertEquals([removed.conversations, removed.conversation_states], [3, 2]);
  assertEquals(await left(user), 0);
});

Deno.test("an import that goes on after the request brings nothing back", async () => {
  const user = await signUp();
  const { data: begun } = await user.client.rpc("import_conversation", {
    p_conversation: { title: "secret", last_sequence_order: 1, more: true },
    p_messages: [{ role: "user", content: "one", sequence_order: 1 }],
  });
  const { id } = begun as { id: string };
  const { body } = await eraseAll(user);
  assert(body.finished_at);
  assertEquals(body.removed, { conversations: 1, conversation_messages: 1, imports: 1 });
  const { error } = await user.client.rpc("import_conversation", {
    p_conversation: { continues: id },
    p_messages: [{ role: "user", content: "two", sequence_order: 2 }],
  });
  assertEquals(error?.code, "PT404", error?.details);
  assertEquals(await left(user), 0);
});

Deno.test("eight requests at once, and eight writers: no error but 404, and nothing is left of what was there", async () => {
  const user = await signUp();
  await fill(user, 60, 20);
  const ids = (await sql`select id from conversations where user_id = ${user.id} limit 8`).map(({ id }) => id);
  let erasing = true;
  const writers = ids.map(async (id) => {
    const statuses = new Set<number>();
    while (erasing) {
      const path = `/conversations/${id}/messages`;
      statuses.add((await user.request("POST", path, { body: { messages } })).status);
      statuses.add((await user.request("POST", `/conversations/${id}/fork`, { body: { at: 1 } })).status);
    }
    return statuses;
  });
  const answers = await Promise.all(Array.from({ length: 8 }, () => eraseAll(user)));
  assertEquals(new Set(answers.map(({ status }) => status)), new Set([202]));
  for (let i = 0; i < 100; i++) {
    if ((await eraseAll(user)).body.finished_at) break;
  }
  const last = await finish(() => user.request("GET", `/conversations/erasures/${answers[0].body.id}`));
  assert(last.finished_at);
  erasing = false;
  for (const statuses of await Promise.all(writers)) {
    assert(statuses.has(404) && statuses.isSubsetOf(new Set([201, 404])), [...statuses].join());
  }
  assertEquals(await left(user), 0);
});

Deno.test("a job that is killed in the middle loses nothing, keeps no lock, and the next one goes on", async () => {
  const user = await signUp();
  await fill(user, 600, 50);
  const { body: { id } } = await eraseAll(user);
  const read = () => user.request("GET", `/conversations/erasures/${id}`);
  const job = connect();
  const killed = job.unsafe(`do $job$ begin
    perform private.advance_erasure('${id}', '1 millisecond');
    commit;
    perform private.advance_erasure('${id}', '20 milliseconds');
    perform pg_sleep(600);
  end $job$`).simple().then(() => false, () => true);
  let pid = 0;
  while (!pid) {
    const [row] = await sql`
      select pid from pg_stat_activity
      where wait_event = 'PgSleep' and query like ${`%advance_erasure('${id}%`}`;
    pid = row?.pid ?? 0;
  }
  await sql`select pg_terminate_backend(${pid}, 10000)`;
  assert(await killed);
  await job.end({ timeout: 1 });
  assertEquals((await sql`select from pg_locks where pid = ${pid}`).length, 0);
  // What the receipt counts is gone, and what it does not is there.
  const removed: Record<string, number> = (await read()).body.removed;
  const total = 660 + 30_000 + 60;
  assertEquals(await left(user), total - Object.values(removed).reduce((a, b) => a + b, 0));
  assertEquals((await finish(read)).removed, {
    conversations: 660,
    conversation_messages: 30_000,
    conversation_states: 60,
  });
  assertEquals(await left(user), 0);
});

Deno.test("what a host's table holds fast is on the receipt, the messages are gone, and others go on", async () => {
  const [user, other] = [await signUp(), await signUp()];
  const id = await newConversation(user, { title: "secret", messages });
  const schema = `host_${uuid().replaceAll("-", "")}`;
  await sql.unsafe(`
    create schema ${schema};
    create table ${schema}.tickets (conversation_id uuid references public.conversations (id));
    insert into ${schema}.tickets values ('${id}')`).simple();
  try {
    const { body } = await eraseAll(user);
    assertEquals([body.error, body.finished_at, body.removed], ["23503", null, { conversation_messages: 2 }]);
    assertEquals((await user.request("GET", `/conversations/${id}`)).status, 404);
    assertEquals([...await sql`select title from conversations where id = ${id}`], [{ title: null }]);

    await fill(other, 20, 20);
    const { body: theirs } = await eraseAll(other);
    await finish(() => other.request("GET", `/conversations/erasures/${theirs.id}`));

    await sql.unsafe(`delete from ${schema}.tickets`);
    const done = await finish(() => user.request("GET", `/conversations/erasures/${body.id}`));
    assertEquals([done.error, done.removed], [null, { conversations: 1, conversation_messages: 2 }]);
  } finally {
    await sql.unsafe(`drop schema ${schema} cascade`);
  }
});

Deno.test("what is asked for again while the last step of an erasure runs is not left to it", async () => {
  const user = await signUp();
  const [{ id }] = await sql`
    insert into private.erasures (scope, user_id) values ('conversations', ${user.id}) returning id`;
  const later = await newConversation(user, { messages });
  const holder = connect();
  const [asked] = await holder.begin(async (tx) => {
    // The request has found the first erasure, and cannot put on its list what is to go.
    await tx`lock table private.erasure_conversations in exclusive mode`;
    const answer = eraseAll(user);
    const waiting = () =>
      sql`select from pg_locks where relation = 'private.erasure_conversations'::regclass and not granted`;
    while ((await waiting()).length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
    await tx`select private.advance_erasure(${id}, '1 millisecond')`;
    return [answer];
  });
  const answer = await asked;
  await holder.end();
  assert(answer.body.finished_at, JSON.stringify(answer.body));
  assertEquals(answer.body.removed, { conversations: 1, conversation_messages: 2 });
  assertEquals((await user.request("GET", `/conversations/${later}`)).status, 404);
  assertEquals(await left(user), 0);
});

Deno.test("large messages and events, and thousands of responses to one conversation, go in pieces as well", async () => {
  const user = await signUp();
  const id = await newConversation(user);
  const session = (await user.request("POST", "/sessions", { body: {} })).body.id;
  // Of hex, which does not compress: 80 MiB each.
  await sql`
    with body as materialized (select string_agg(md5(n::text), '') as text from generate_series(1, 131072) n)
    insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
    select ${id}, ${user.id}, n, 'user', text from body, generate_series(1, 20) n`;
  await sql`update conversations set last_sequence_order = 20 where id = ${id}`;
  await sql`
    with body as materialized (select string_agg(md5(n::text), '') as text from generate_series(1, 131072) n)
    insert into event_logs (session_id, user_id, sequence, event_type, content)
    select ${session}, ${user.id}, n, 'user_message', to_jsonb(text) from body, generate_series(1, 20) n`;
  await sql`
    insert into conversation_states (
      user_id, response_id, conversation_id, after_sequence, input_sequence, sequence_order, model, provider, request_hash
    )
    select ${user.id}, 'resp_' || n, ${id}, 0, 1, 2, 'm', 'p', '' from generate_series(1, 5000) n`;
  const [{ id: erasure }] = await sql`
    insert into private.erasures (scope, user_id) values ('user', ${user.id}) returning id`;
  const pieces: Record<string, number>[] = [];
  await sql.begin(async (tx) => {
    // Nobody else's turn until the end.
    await tx`select from private.erasures where id = ${erasure} for update`;
    for (let i = 0; i < 100; i++) {
      const [{ piece }] = await tx`select private.erase_piece(${erasure}, 'user', ${user.id}) as piece`;
      if (!piece) break;
      pieces.push(piece);
    }
  });
  const most = (table: string) => Math.max(...pieces.map((piece) => piece[table] ?? 0));
  const all = (table: string) => pieces.reduce((sum, piece) => sum + (piece[table] ?? 0), 0);
  for (
    const [table, count, atOnce] of [
      ["conversation_messages", 20, 17],
      ["event_logs", 20, 17],
      ["conversation_states", 5000, 2000],
    ] as const
  ) {
    assertEquals(all(table), count, table);
    assert(most(table) <= atOnce, `${table}: ${most(table)} at once`);
  }
  assertEquals(await left(user), 0);
  await sql`delete from private.erasures where id = ${erasure}`;
});

Deno.test("keys of requests go with the conversations they are about, and others stay", async () => {
  const user = await signUp();
  const keyed = (method: string, path: string, body: unknown) =>
    user.request(method, path, { body, headers: { "idempotency-key": "k" } });
  const { body: { id } } = await keyed("POST", "/conversations", { messages });
  assertEquals((await keyed("POST", `/conversations/${id}/messages`, { messages })).status, 201);
  assertEquals((await keyed("POST", `/conversations/${id}/fork`, { at: 1 })).status, 201);
  assertEquals((await keyed("POST", "/sessions", {})).status, 201);
  const scopes = async () =>
    (await sql`select scope from private.idempotency_keys where user_id = ${user.id} order by 1`).map(({ scope }) =>
      scope
    );
  assertEquals((await scopes()).length, 4);
  const { body } = await eraseAll(user);
  assertEquals(body.removed, { conversations: 2, conversation_messages: 4, idempotency_keys: 3 });
  assertEquals(await scopes(), ["POST /sessions"]);
  // Of a conversation that is there, they stay.
  const { body: later } = await keyed("POST", "/conversations", { messages });
  await finish(() => user.request("GET", `/conversations/erasures/${body.id}`));
  const again = await keyed("POST", "/conversations", { messages });
  assertEquals([again.body.id, again.headers.get("idempotent-replayed")], [later.id, "true"]);
});

Deno.test("deleting the user in Auth while an erasure of theirs runs", async () => {
  const user = await signUp();
  await fill(user, 400, 50);
  const asBackend = backend(user.id);
  const [own, whole] = [await eraseAll(user), await asBackend("DELETE", "/users/me?confirm=all")];
  assertEquals([own.status, whole.status], [202, 202]);
  const jobs = connect();
  const running = jobs.unsafe(JOB).simple();
  await sql`delete from auth.users where id = ${user.id}`;
  await running;
  await jobs.end();
  assertEquals(await left(user), 0);
  assertEquals((await sql`select from private.erasures where user_id = ${user.id}`).length, 0);
  assert(
    (await backend()("GET", `/users/erasures/${whole.body.id}`)).body.finished_at,
    "whoever asked hears of the end",
  );
  // The token has outlived its user.
  const late = await eraseAll(user);
  assertEquals([late.status, late.body.code], [401, "unauthorized"]);
});

Deno.test("a whole user is for backends, who name them", async () => {
  const user = await signUp();
  const id = await newConversation(user, { messages });
  const refused = await user.request("DELETE", "/users/me?confirm=all", { headers: { "x-user-id": user.id } });
  assertEquals([refused.status, refused.body.code], [403, "forbidden"]);
  const anonymous = await request("DELETE", "/users/me?confirm=all", {
    headers: { apikey: publishableKey, "x-user-id": user.id },
  });
  assertEquals(anonymous.status, 401);
  const unnamed = await backend()("DELETE", "/users/me?confirm=all");
  assertEquals([unnamed.status, unnamed.body.code], [400, "user_id_required"]);
  const unsure = await backend(user.id)("DELETE", "/users/me");
  assertEquals([unsure.status, unsure.body.code], [400, "invalid_request"]);
  // Who owns the documents of the backend itself is no user.
  const zero = await backend("00000000-0000-0000-0000-000000000000")("DELETE", "/users/me?confirm=all");
  assertEquals([zero.status, zero.body.code], [400, "invalid_request"]);
  assertEquals((await user.request("GET", `/conversations/${id}`)).status, 200);

  const { status, body, headers } = await backend(user.id.toUpperCase())("DELETE", "/users/me?confirm=all");
  assertEquals([status, body.scope, body.error], [202, "user", null]);
  assert(body.finished_at);
  assertEquals(headers.get("location"), `/functions/v1/users/erasures/${body.id}`);
  assertEquals(await left(user), 0);
  assertEquals((await backend()("GET", `/users/erasures/${body.id}`)).body, body);
  const peek = await user.client.rpc("get_erasure", { p_erasure_id: body.id, p_scope: "user" });
  assertEquals(peek.error?.code, "PT404");
  // The user of Auth is still there, and starts anew.
  await newConversation(user, { messages });
});

Deno.test("receipts go after 30 days, and not before", async () => {
  const [old, young] = (await sql`
    insert into private.erasures (scope, finished_at)
    select 'user', now() - days * interval '1 day' from unnest(array[31, 29]) days
    returning id`).map(({ id }) => `/users/erasures/${id}`);
  for (let i = 0; i < 1000 && (await backend()("GET", old)).status === 200; i++) {
    await sql.unsafe(JOB).simple();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assertEquals((await backend()("GET", old)).status, 404);
  assertEquals((await backend()("GET", young)).status, 200);
});

Deno.test("close", () => sql.end());
