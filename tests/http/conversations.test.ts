import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { page } from "../../supabase/functions/_shared/schemas.ts";
import { appended, conversation, message } from "../../supabase/functions/conversations/schemas.ts";
import { backend, connect, newConversation, signUp, type TestUser, uuid } from "../support/stack.ts";

const alice = await signUp();

Deno.test("a conversation is created, loaded, changed and deleted", async () => {
  const created = await alice.request("POST", "/conversations", {
    body: {
      title: "Trip",
      metadata: { topic: "travel", nested: { a: [1, 2] } },
      expires_at: "2099-01-01T00:00:00+02:00",
    },
  });
  assertEquals(created.status, 201);
  const { id } = created.body;
  assertEquals(created.body, {
    id,
    user_id: alice.id,
    video_id: null,
    title: "Trip",
    summary: null,
    metadata: { topic: "travel", nested: { a: [1, 2] } },
    parent_id: null,
    fork_sequence: null,
    last_sequence_order: 0,
    pinned: false,
    expires_at: "2098-12-31T22:00:00+00:00",
    created_at: created.body.created_at,
    updated_at: created.body.updated_at,
    archived_at: null,
  });
  assertMatch(created.body.created_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00$/);

  const loaded = await alice.request("GET", `/conversations/${id}`);
  assertEquals([loaded.status, loaded.body], [200, created.body]);

  const changed = await alice.request("PATCH", `/conversations/${id}`, {
    body: {
      title: null,
      summary: "They went.",
      pinned: true,
      expires_at: null,
      metadata: { topic: null, mood: "good" },
    },
  });
  assertEquals(changed.status, 200);
  assertEquals(changed.body, {
    ...created.body,
    title: null,
    summary: "They went.",
    pinned: true,
    expires_at: null,
    metadata: { nested: { a: [1, 2] }, mood: "good" },
  });

  const deleted = await alice.request("DELETE", `/conversations/${id}`);
  assertEquals([deleted.status, deleted.body], [204, null]);
  for (const [method, path] of [["GET", ""], ["PATCH", ""], ["DELETE", ""], ["GET", "/messages"]]) {
    const gone = await alice.request(method, `/conversations/${id}${path}`, method === "PATCH" ? { body: {} } : {});
    assertEquals([gone.status, gone.body.code], [404, "conversation_not_found"], `${method} ${path}`);
  }
});

Deno.test("archived conversations are listed where they are asked for, and stay what they are", async () => {
  const owner = await signUp();
  const send = async (method: string, path: string, body?: unknown) => {
    const answer = await owner.request(method, `/conversations${path}`, { body });
    assert(answer.status < 300, JSON.stringify(answer.body));
    return answer.body;
  };
  const ids = async (query: string) => (await send("GET", query)).data.map(({ id }: { id: string }) => id);
  const kept = await newConversation(owner, { title: "kept" });
  const put = await newConversation(owner, { title: "put away", messages: [{ role: "user", content: "narwhal" }] });

  const before = await send("GET", `/${put}`);
  const archived = await send("PATCH", `/${put}`, { archived: true });
  assert(Math.abs(Date.parse(archived.archived_at) - Date.now()) < 60_000, archived.archived_at);
  assertEquals(archived, { ...before, archived_at: archived.archived_at });
  assertEquals(await send("PATCH", `/${put}`, { archived: true, title: "again" }), { ...archived, title: "again" });

  assertEquals(await ids(""), [kept]);
  assertEquals(await ids("?archived=false"), [kept]);
  assertEquals(await ids("?archived=true"), [put]);
  assertEquals(await ids("?archived=any"), [put, kept]);
  const { status, body } = await owner.request("GET", "/conversations?archived=yes");
  assertEquals([status, body.code, body.details[0].path], [400, "invalid_request", "archived"]);

  // Found, read and gone on with as any other; a fork of it is a new one.
  const hits = (await send("GET", "/search?q=narwhal")).data;
  assertEquals(hits.map((hit: { conversation_id: string }) => hit.conversation_id), [put]);
  assertEquals((await send("GET", `/${put}/context`)).messages.length, 1);
  await send("POST", `/${put}/messages`, { messages: [{ role: "user", content: "more" }] });
  assertEquals((await send("GET", `/${put}`)).archived_at, archived.archived_at);
  assertEquals((await send("POST", `/${put}/fork`, { at: 1 })).archived_at, null);

  assertEquals((await send("PATCH", `/${put}`, { archived: false })).archived_at, null);
  assert((await ids("")).includes(put));

  // Through the REST API, as pinned: the owner, and nobody else.
  const archive = (user: TestUser) =>
    user.client.from("conversations").update({ archived_at: "2026-01-01T00:00:00Z" }).eq("id", put).select(
      "archived_at",
    );
  assertEquals((await archive(alice)).data, []);
  assertEquals((await archive(owner)).data, [{ archived_at: "2026-01-01T00:00:00+00:00" }]);
  const { error } = await owner.client.from("conversations").update({ archived_at: "infinity" }).eq("id", put);
  assertEquals(error?.code, "23514");
  const { body: refused } = await owner.request("PATCH", `/conversations/${put}`, { body: { archived: null } });
  assertEquals(refused.code, "invalid_request");
});

Deno.test("answers have the shapes that the OpenAPI document promises", async () => {
  const { body: created } = await alice.request("POST", "/conversations", { body: { title: "shapes" } });
  conversation.parse(created);
  const { body: batch } = await alice.request("POST", `/conversations/${created.id}/messages`, {
    body: {
      messages: [{ role: "user", content: "x", usage: { total_tokens: 1 } }, { role: "assistant", parts: [{}] }],
    },
  });
  appended.parse(batch);
  page(message).parse((await alice.request("GET", `/conversations/${created.id}/messages?limit=1`)).body);
  page(conversation).parse((await alice.request("GET", "/conversations?limit=1")).body);
  conversation.parse((await alice.request("POST", `/conversations/${created.id}/fork`, { body: { at: 1 } })).body);
});

Deno.test("first messages come with the conversation or not at all", async () => {
  const title = uuid();
  const good = await alice.request("POST", "/conversations", {
    body: { title, messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "Hi" }] },
  });
  assertEquals([good.status, good.body.last_sequence_order], [201, 2]);

  const bad = await alice.request("POST", "/conversations", {
    body: { title, messages: [{ role: "user", content: "Hi" }, { role: "narrator", content: "?" }] },
  });
  assertEquals([bad.status, bad.body.details[0].path], [400, "messages[1].role"]);
  const list = await alice.request("GET", "/conversations?limit=1000");
  assertEquals(list.body.data.filter((c: { title: string }) => c.title === title).length, 1);
});

Deno.test("functions.invoke works from supabase-js, with and without a body", async () => {
  const { data: empty, error: emptyError } = await alice.client.functions.invoke("conversations");
  assertEquals([emptyError, empty.last_sequence_order], [null, 0]);

  const { data, error } = await alice.client.functions.invoke(`conversations/${empty.id}/messages`, {
    body: { messages: [{ role: "user", content: "Hello" }] },
  });
  assertEquals([error, data.last_sequence_order], [null, 1]);

  const { data: page } = await alice.client.functions.invoke(`conversations/${empty.id}/messages?limit=20`, {
    method: "GET",
  });
  assertEquals(page.data.map((m: { content: string }) => m.content), ["Hello"]);

  const { error: refused } = await alice.client.functions.invoke(`conversations/${uuid()}`, { method: "GET" });
  assertEquals((await refused.context.json()).code, "conversation_not_found");
});

Deno.test("the list pages by newest activity and never repeats a row, appends going on", async () => {
  const user = await signUp();
  const ids: string[] = [];
  for (let i = 0; i < 7; i++) ids.push(await newConversation(user, { title: `c${i}` }));
  // The oldest becomes the newest.
  const touched = ids[0];
  await user.request("POST", `/conversations/${touched}/messages`, {
    body: { messages: [{ role: "user", content: "!" }] },
  });

  const seen: string[] = [];
  let cursor: string | null = null;
  do {
    const query: string = cursor ? `&cursor=${cursor}` : "";
    const { body } = await user.request("GET", `/conversations?limit=3${query}`);
    seen.push(...body.data.map((c: { id: string }) => c.id));
    assertEquals(body.has_more, body.next_cursor !== null);
    cursor = body.next_cursor;
    // Activity between two pages moves a row that was already seen.
    await user.request("POST", `/conversations/${touched}/messages`, {
      body: { messages: [{ role: "user", content: "!" }] },
    });
  } while (cursor);
  assertEquals(seen, [touched, ...ids.slice(1).reverse()]);
});

Deno.test("the list filters by video and by metadata", async () => {
  const { data: video } = await alice.client.from("videos").insert({ title: "v" }).select().single();
  const withVideo = await newConversation(alice, { video_id: video!.id, metadata: { tag: "x", n: 1 } });
  await newConversation(alice, { metadata: { tag: "y" } });

  const byVideo = await alice.request("GET", `/conversations?video_id=${video!.id}`);
  assertEquals(byVideo.body.data.map((c: { id: string }) => c.id), [withVideo]);
  const byMetadata = await alice.request("GET", `/conversations?metadata=${encodeURIComponent('{"tag":"x"}')}`);
  assertEquals(byMetadata.body.data.map((c: { id: string }) => c.id), [withVideo]);

  // The video goes, the conversation stays.
  await alice.client.from("videos").delete().eq("id", video!.id).throwOnError();
  assertEquals((await alice.request("GET", `/conversations/${withVideo}`)).body.video_id, null);
});

Deno.test("a video must exist and be one's own", async () => {
  const bob = await signUp();
  const { data: video } = await bob.client.from("videos").insert({ title: "b" }).select().single();
  for (const video_id of [video!.id, uuid()]) {
    const created = await alice.request("POST", "/conversations", { body: { video_id } });
    assertEquals([created.status, created.body.code], [404, "video_not_found"]);
    const changed = await alice.request("PATCH", `/conversations/${await newConversation(alice)}`, {
      body: { video_id },
    });
    assertEquals([changed.status, changed.body.code], [404, "video_not_found"]);
  }
  assertEquals((await bob.request("POST", "/conversations", { body: { video_id: video!.id } })).status, 201);
});

Deno.test("updated_at moves with a message, not by reading or renaming", async () => {
  const id = await newConversation(alice);
  const at = async () => (await alice.request("GET", `/conversations/${id}`)).body.updated_at;
  const before = await at();
  await alice.request("GET", `/conversations/${id}/messages`);
  await alice.request("PATCH", `/conversations/${id}`, { body: { title: "renamed" } });
  assertEquals(await at(), before);
  await alice.request("POST", `/conversations/${id}/messages`, {
    body: { messages: [{ role: "user", content: "!" }] },
  });
  assertNotEquals(await at(), before);
});

Deno.test("a backend acts for the user it names, and reads and deletes by id without one", async () => {
  const asAlice = backend(alice.id);
  const created = await asAlice("POST", "/conversations", { body: { title: "by the backend" } });
  assertEquals([created.status, created.body.user_id], [201, alice.id]);
  const path = `/conversations/${created.body.id}`;
  const appended = await asAlice("POST", `${path}/messages`, {
    body: { messages: [{ role: "assistant", content: "Hi" }] },
  });
  assertEquals([appended.status, appended.body.messages[0].author], [201, "service"]);
  await alice.request("POST", `${path}/messages`, { body: { messages: [{ role: "user", content: "Hello" }] } });
  const authors = (await alice.request("GET", `${path}/messages`)).body.data.map((m: { author: string }) => m.author);
  assertEquals(authors, ["service", "user"]);
  const listed = await asAlice("GET", "/conversations?limit=1");
  assertEquals(listed.body.data[0].user_id, alice.id);

  const anyone = backend();
  assertEquals((await anyone("GET", path)).status, 200);
  assertEquals((await anyone("GET", `${path}/messages`)).body.data.length, 2);
  for (
    const [method, target, body] of [
      ["POST", "/conversations", {}],
      ["GET", "/conversations", undefined],
      ["PATCH", path, { title: "x" }],
      ["POST", `${path}/messages`, { messages: [{ role: "user", content: "x" }] }],
    ] as const
  ) {
    const refused = await anyone(method, target, { body });
    assertEquals([refused.status, refused.body.code], [400, "user_id_required"], `${method} ${target}`);
  }
  assertEquals((await backend(uuid())("GET", "/conversations")).body.code, "user_not_found");
  const malformed = await backend("someone")("GET", path);
  assertEquals([malformed.status, malformed.body.details[0].path], [400, "x-user-id"]);
  // Acting for someone else, the backend sees what they see.
  const bob = await signUp();
  assertEquals((await backend(bob.id)("GET", path)).status, 404);
  // The header means nothing beside a user's token.
  assertEquals((await bob.request("GET", path, { headers: { "x-user-id": alice.id } })).status, 404);
  assertEquals((await anyone("DELETE", path)).status, 204);
  assertEquals((await alice.request("GET", path)).status, 404);
});

Deno.test("deleting the user deletes what they wrote", async () => {
  const user = await signUp();
  const id = await newConversation(user, { messages: [{ role: "user", content: "bye" }] });
  const sql = connect();
  try {
    const rows = () => sql`select from conversation_messages where conversation_id = ${id}`;
    assertEquals((await rows()).length, 1);
    await sql`delete from auth.users where id = ${user.id}`;
    assertEquals((await rows()).length, 0);
    assert((await sql`select from conversations where id = ${id}`).length === 0);
  } finally {
    await sql.end();
  }
});
