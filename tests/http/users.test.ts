// The export of everything about one user.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { app } from "../../supabase/functions/users/app.ts";
import { countCalls } from "../support/calls.ts";
import { backend, newConversation, publishableKey, request, secretKey, signUp, uuid } from "../support/stack.ts";
import { exportLines, exportText, furnish, type Line } from "../support/users.ts";

// Every length of UTF-8, what JSON escapes, what JavaScript takes for the end of a line, and a family.
const odd = 'ß ключ 日本 e\u0301 \u2028 \\ " \n\t \u007f 👨‍👩‍👧‍👦 \u{10ffff}';

const ofType = (lines: Line[], type: string) => lines.filter((line) => line.type === type);
const typed = (type: string, rows: object[]) => rows.map((row) => ({ type, ...row }));

Deno.test("a user exports everything, as it was said, and nothing of anybody else's", async () => {
  const [alice, bob] = [await signUp(), await signUp()];
  const has = await furnish(alice, `alice ${odd}`);
  const bobs = await furnish(bob, "bob's");
  const text = await exportText(alice.request);
  const lines = await exportLines(alice.request);

  const { exported_at, ...header } = lines[0];
  assertEquals(header, { type: "export", user_id: alice.id, version: 1 });
  assert(Math.abs(Date.now() - Date.parse(exported_at)) < 60_000, exported_at);
  assertEquals(lines.at(-1), {
    type: "end",
    videos: 1,
    conversations: 3,
    tombstones: 1,
    messages: 2 + 1 + 4,
    responses: 2,
    sessions: 2,
    events: 3,
    event_counts: 3,
    documents: 1,
    document_failures: 1,
    collection_versions: 1,
    idempotency_keys: 1,
  });

  // Every kind as the API answers it elsewhere.
  const get = async (path: string) => (await alice.request("GET", path)).body;
  const { data: videos } = await alice.client.from("videos").select("id, title, created_at");
  assertEquals(ofType(lines, "video"), videos!.map((video) => ({ type: "video", video })));
  assertEquals(videos![0].title, `alice ${odd}`);
  const conversations = (await get("/conversations/export")).trimEnd().split("\n").slice(0, -1);
  assertEquals(text.filter((line) => /^{"type": "(conversation|message)"/.test(line)), conversations);
  assert(lines.some((line) => line.content === `alice ${odd}`) && lines.some((line) => line.title === `alice ${odd}`));
  for (const { type: _, after_sequence, input_sequence, sequence_order, ...line } of ofType(lines, "response")) {
    const { input_items, ...response } = await get(`/responses/${line.response_id}`);
    assertEquals(line, response as Record<string, unknown>);
    assertEquals([after_sequence, sequence_order], line.previous_response_id ? [2, 4] : [0, 2]);
    assertEquals([input_sequence, input_items.length], [after_sequence + 1, sequence_order]);
  }
  assertEquals(ofType(lines, "response").map((line) => line.response_id), [has.response, `${has.response}_2`]);
  const sessions = (await get("/sessions")).data.toReversed();
  assertEquals(ofType(lines, "session"), typed("session", sessions));
  const events = (await get(`/sessions/${has.session}/events`)).data;
  assertEquals(ofType(lines, "event"), typed("event", events));
  assertEquals(events[0].content, { text: `alice ${odd}` });
  for (const { slot, ...line } of ofType(lines, "event_count")) {
    const { event_type } = line;
    const messages = event_type.endsWith("_message") ? 1 : 0;
    assertEquals(line, { type: "event_count", session_id: has.session, event_type, count: 1, messages });
    assert(Date.parse(slot) <= Date.parse(events[0].occurred_at), slot);
  }
  const { collection } = has;
  const { items } = (await alice.request("POST", `/documents/${collection}/find`, { body: {} })).body;
  assertEquals(
    ofType(lines, "document"),
    items.map((document: unknown) => ({ type: "document", collection, document })),
  );
  assertEquals([items.length, items[0].text, items[0][`alice ${odd}`]], [1, `alice ${odd}`, `alice ${odd}`]);
  const failures = (await get(`/documents/${collection}/failures`)).data;
  assertEquals(
    ofType(lines, "document_failure"),
    typed("document_failure", failures.map((failure: object) => ({ collection, ...failure }))),
  );
  assertEquals(ofType(lines, "collection_version"), [
    { type: "collection_version", collection, version: `alice ${odd}` },
  ]);
  const [{ key, created_at, ...rest }] = ofType(lines, "idempotency_key");
  assertEquals(rest, { type: "idempotency_key", scope: "POST /conversations" });
  assertMatch(`${key} ${created_at}`, /^[\w-]{36} \d{4}-/);

  // A session is followed by what happened in it.
  const at = (id: string) => lines.findIndex((line) => line.type === "session" && line.id === id);
  assertEquals(lines.slice(at(has.session) + 1, at(has.session) + 7).map((line) => line.type), [
    ...Array(3).fill("event"),
    ...Array(3).fill("event_count"),
  ]);

  const all = text.join("\n");
  assert(!all.includes("hash"), "no hash of what was sent");
  const foreign = ["bob's", bob.id, ...Object.values(bobs)];
  assertEquals(foreign.filter((value) => all.includes(value)), []);
  const theirs = (await exportText(bob.request)).join("\n");
  assertEquals(foreign.filter((value) => !theirs.includes(value)), [], "the control: they are in bob's");

  // The backend, for the same user, in either case of the id: the same.
  for (const id of [alice.id, alice.id.toUpperCase()]) {
    const [first, ...others] = await exportLines(backend(id));
    assertEquals([first.user_id, others], [alice.id, lines.slice(1)]);
  }
});

Deno.test("10,000 events and 5,000 messages are all there, in their order", async () => {
  const alice = await signUp();
  const conversation = await newConversation(alice);
  const open = async () => (await alice.request("POST", "/sessions", { body: {} })).body.id;
  const [first, second] = [await open(), await open()];
  const thousand = (n: number) => Array.from({ length: 1000 }, (_, i) => n * 1000 + i + 1);
  const append = async (path: string, body: unknown) => {
    assertEquals((await alice.request("POST", path, { body })).status, 201);
  };
  for (let n = 0; n < 5; n++) {
    const messages = thousand(n).map((i) => ({ role: "user", content: `${i} ${odd}` }));
    await append(`/conversations/${conversation}/messages`, { messages });
    for (const session of [first, second]) {
      const events = thousand(n).map((i) => ({ event_type: "ai_chunk", content: `${session} ${i} ${odd}` }));
      await append(`/sessions/${session}/events`, { events });
    }
    const documents = thousand(n).map((i) => ({ id: `${i}`.padStart(5, "0") }));
    await append("/documents/many/insert_many", { documents });
  }
  // Longer than a page, each.
  const wide = "x".repeat(1_500_000);
  for (const session of [first, second]) {
    await append(`/sessions/${session}/events`, { events: [{ event_type: "ai_message", content: wide }] });
  }

  const lines = await exportLines(alice.request);
  const numbers = Array.from({ length: 5000 }, (_, i) => i + 1);
  assertEquals(ofType(lines, "message").map((m) => m.content), numbers.map((i) => `${i} ${odd}`));
  assertEquals(
    ofType(lines, "event").map((event) => [event.session_id, event.sequence, event.content]),
    [first, second].flatMap((session) => [
      ...numbers.map((i) => [session, i, `${session} ${i} ${odd}`]),
      [session, 5001, wide],
    ]),
  );
  assertEquals(ofType(lines, "document").map((line) => Number(line.document.id)), numbers);
});

Deno.test("more sessions, and more of a session's counts, than a page has", async () => {
  const caller = `many ${uuid()}`;
  for (let n = 0; n < 1100; n += 100) {
    const opened = Array.from({ length: 100 }, () => backend(caller)("POST", "/sessions", { body: {} }));
    for (const { status } of await Promise.all(opened)) assertEquals(status, 201);
  }
  const { body: { id } } = await backend(caller)("POST", "/sessions", { body: {} });
  for (let n = 0; n < 5; n++) {
    const occurred_at = new Date(Date.now() - n * 900_000).toISOString(); // each quarter of an hour has its own counts
    const events = Array.from({ length: 240 }, (_, i) => ({ event_type: `type ${n} ${i}`, content: 1, occurred_at }));
    assertEquals((await backend(caller)("POST", `/sessions/${id}/events`, { body: { events } })).status, 201);
  }
  const lines = await exportLines(backend(caller));
  const ids = ofType(lines, "session").map((line) => line.id);
  assertEquals([ids.length, new Set(ids).size], [1101, 1101]);
  assertEquals(ofType(lines, "event").length, 1200);
  assertEquals(new Set(ofType(lines, "event_count").map((line) => line.event_type)).size, 1200);
});

Deno.test("a backend exports who is no user of Auth, and of whom nothing is known", async () => {
  const [caller, other, unknown] = [`+49 30 ${uuid()}`, `+49 31 ${uuid()}`, uuid()];
  for (const id of [caller, other, unknown.toUpperCase()]) {
    const { status, body } = await backend(id)("POST", "/sessions", {
      body: { metadata: { of: id } },
      headers: { "idempotency-key": "k" },
    });
    assertEquals([status, body.user_id], [201, id.toLowerCase()]);
    const events = [{ event_type: "user_message", content: id }];
    await backend(id)("POST", `/sessions/${body.id}/events`, { body: { events } });
  }
  for (const id of [caller, unknown]) {
    const lines = await exportLines(backend(id));
    const types = ["export", "session", "event", "event_count", "idempotency_key", "end"];
    assertEquals(lines.map((line) => line.type), types);
    assertEquals([lines[0].user_id, lines[1].user_id], [id, id]);
    assertEquals(lines[2].content.toLowerCase(), id);
    assert(!JSON.stringify(lines).includes(other));
  }
  for (const id of [uuid(), "nobody"]) {
    const lines = await exportLines(backend(id));
    assertEquals(lines.map((line) => line.type), ["export", "end"]);
  }
});

Deno.test("a user's token exports that user, whomever the request names", async () => {
  const [alice, mallory] = [await signUp(), await signUp()];
  const { session } = await furnish(alice, "secret");
  const path = "/users/me/export";
  const own = await mallory.request("GET", path, { headers: { "x-user-id": alice.id } });
  assertEquals([own.status, JSON.parse(own.body.split("\n")[0]).user_id], [200, mallory.id]);
  assert(!own.body.includes("secret"));

  const code = async (send: typeof request, options = {}) => {
    const { status, body } = await send("GET", path, options);
    return [status, body.code];
  };
  assertEquals(await code(request, { headers: { apikey: publishableKey, "x-user-id": alice.id } }), [
    401,
    "unauthorized",
  ]);
  assertEquals(await code(backend()), [400, "user_id_required"]);
  assertEquals(await code(backend("00000000-0000-0000-0000-000000000000")), [400, "invalid_request"]);
  assertEquals(await code(backend("x".repeat(257))), [400, "invalid_request"]);
  const wrong = await alice.request("POST", path, { body: {} });
  assertEquals([wrong.status, wrong.headers.get("allow")], [405, "GET, HEAD"]);

  // Past the edge, by a place of one's own making.
  const { data: stranger, error } = await mallory.client.rpc("export_user_page", { p_user_id: alice.id });
  assertEquals(error, null);
  assert(!JSON.stringify(stranger).includes("secret"));
  const { data: events } = await alice.client.from("event_logs").select("created_at").eq("session_id", session);
  const place = {
    id: session,
    from: events![0].created_at,
    to: events!.at(-1)!.created_at,
    start_time: "1970-01-01T00:00:00Z",
    last: 3,
  };
  for (const kind of ["events", "event_counts"]) {
    const read = async (client: typeof alice.client) => {
      const { data } = await client.rpc("export_user_page", { p_cursor: { kind, session: place } });
      return (data as { lines: string }).lines.includes(session);
    };
    assertEquals([await read(mallory.client), await read(alice.client)], [false, true], kind);
  }
  for (const p_cursor of [{ kind: "passwords" }, { kind: "videos", key: { id: "1" } }, { as_of: "x" }, { kind: [] }]) {
    const { error } = await alice.client.rpc("export_user_page", { p_cursor });
    assertMatch(error!.code, /^(PT400|22)/, JSON.stringify(p_cursor));
  }
});

Deno.test("the conversations of an export import into another account", async () => {
  const [alice, bob] = [await signUp(), await signUp()];
  await furnish(alice, odd);
  const lines = (await exportText(alice.request)).filter((line) => /^{"type": "(conversation|message)"/.test(line));
  const { status, body } = await bob.request("POST", "/conversations/import", {
    body: lines.join("\n"),
    headers: { "content-type": "application/x-ndjson" },
  });
  assertEquals([status, body.imported, body.failed, body.messages], [200, 4, 0, 7], JSON.stringify(body));
  const shown = async (user: typeof alice) => {
    const { body: { data } } = await user.request("GET", "/conversations");
    const messages = await Promise.all(data.map(async ({ id, title, summary, metadata, updated_at }: Line) => {
      const { body } = await user.request("GET", `/conversations/${id}/messages`);
      const said = body.data.map(({ id: _, conversation_id: __, ...message }: Line) => message);
      return { title, summary, metadata, updated_at, said };
    }));
    return messages;
  };
  assertEquals(await shown(bob), await shown(alice));
});

Deno.test("what is stored while an export runs is not part of it", async () => {
  const alice = await signUp();
  const { body: { id } } = await alice.request("POST", "/sessions", { body: {} });
  const events = Array.from({ length: 1000 }, (_, i) => ({ event_type: "ai_chunk", content: i }));
  await alice.request("POST", `/sessions/${id}/events`, { body: { events } });
  const { response } = await furnish(alice, "before");
  const pages: string[] = [];
  let place = {};
  for (let n = 0; place; n++) {
    const { data, error } = await alice.client.rpc("export_user_page", { p_cursor: place });
    assertEquals(error, null);
    const { lines, next } = data as { lines: string; next: typeof place };
    pages.push(lines);
    place = next;
    if (n > 0) continue;
    // The first page is videos alone: what has more than one page begins with the second.
    await alice.request("POST", `/sessions/${id}/events`, {
      body: { events: [{ event_type: "x", content: "after" }] },
    });
    const about = { input: "after", output: [], model: "after", provider: "p" };
    assertEquals((await alice.request("PUT", `/responses/${response}`, { body: about })).status, 200);
    await newConversation(alice, { title: "after", messages: [{ role: "user", content: "after" }] });
    await alice.client.from("videos").insert({ title: "after" });
    await alice.request("POST", "/sessions", { body: { metadata: { x: "after" } } });
  }
  assert(pages.length >= 3, `${pages.length} pages`);
  const lines: Line[] = pages.join("\n").split("\n").map((line) => JSON.parse(line));
  assertEquals(ofType(lines, "conversation").filter((line) => line.title === "after"), []);
  assertEquals(ofType(lines, "video").map((line) => line.video.title), ["before"]);
  assertEquals(ofType(lines, "response").map((line) => line.response_id), [`${response}_2`]);
  assertEquals(ofType(lines, "session").length, 3);
});

Deno.test("the export comes as fast as it is read, and an error on the way is its last line", async () => {
  const alice = await signUp();
  const { body: { id } } = await alice.request("POST", "/sessions", { body: {} });
  const events = Array.from({ length: 1000 }, () => ({ event_type: "ai_chunk", content: "x".repeat(1000) }));
  for (let n = 0; n < 4; n++) await alice.request("POST", `/sessions/${id}/events`, { body: { events } });

  const fails = new Set<number>();
  /** What a call waits for, once it was noticed. */
  let held: Promise<void> | undefined;
  let notice = () => {};
  await using counted = await countCalls(async () => {
    if (fails.has(calls.length)) {
      return Response.json({ code: "57014", message: "canceling statement" }, { status: 500 });
    }
    notice();
    await held;
  });
  const { calls } = counted;
  await using server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen: () => {} },
    (request) => app.fetch(request),
  );
  const log = console.error;
  const logged: unknown[] = [];
  console.error = (line) => logged.push(line);
  const headers = { apikey: secretKey, "x-user-id": alice.id };
  const start = () => app.request("/users/me/export", { headers });
  try {
    // Nobody reads: nothing but the first page is fetched; and with each page read, one more.
    const idle = await start();
    await new Promise((resolve) => setTimeout(resolve, 100));
    assertEquals([idle.status, calls.length], [200, 1]);
    const reader = idle.body!.getReader();
    await reader.read();
    assertEquals(calls.length, 1);
    await reader.read();
    assertEquals(calls.length, 2);

    // Who goes away while a page is fetched is no error.
    let release = () => {};
    held = new Promise((resolve) => release = resolve);
    const noticed = new Promise<void>((resolve) => notice = resolve);
    const pending = reader.read();
    await noticed;
    await reader.cancel();
    release();
    held = undefined;
    await pending;
    await new Promise((resolve) => setTimeout(resolve, 200));
    assertEquals([calls.length, logged], [3, []]);

    // Nor is who hangs up.
    const gone = new AbortController();
    const answer = await fetch(`http://127.0.0.1:${server.addr.port}/users/me/export`, {
      headers,
      signal: gone.signal,
    });
    await answer.body!.getReader().read();
    gone.abort();
    await new Promise((resolve) => setTimeout(resolve, 300));
    const before = calls.length;
    await new Promise((resolve) => setTimeout(resolve, 300));
    assertEquals([calls.length, logged], [before, []]);

    calls.length = 0;
    fails.add(2);
    const broken = (await (await start()).text()).trimEnd().split("\n").map((line) => JSON.parse(line));
    assertEquals([broken[0].type, broken.at(-1).type, broken.at(-1).error.code], [
      "export",
      "error",
      "timeout",
    ]);
    assertEquals(logged.length, 1, "the control: an error is logged");

    calls.length = 0;
    fails.add(1);
    assertEquals((await start()).status, 503);
  } finally {
    console.error = log;
  }
});
