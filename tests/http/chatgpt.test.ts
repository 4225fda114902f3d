import { assert, assertEquals, assertMatch } from "@std/assert";
import { fileURLToPath } from "node:url";
import { Uint8ArrayWriter, ZipWriter } from "@zip.js/zip.js";
import { apiUrl, connect, publishableKey, signUp, type TestUser, uuid } from "../support/stack.ts";

// deno-lint-ignore no-explicit-any -- an export, and what the API makes of it
type Any = any;

const root = fileURLToPath(new URL("../..", import.meta.url));

const say = (role: string, text: string, more: Any = {}): Any => ({
  author: { role, name: null, metadata: {} },
  create_time: 1_767_225_601,
  content: { content_type: "text", parts: [text] },
  metadata: {},
  recipient: "all",
  ...more,
});

/** A conversation of an export: messages one below the other, each the child of the one before it. */
function chat(id: string, messages: Any[], more: Any = {}): Any {
  const mapping: Any = { root: { id: "root", message: null, parent: null, children: [] } };
  let parent = "root";
  for (const [i, message] of messages.entries()) {
    const node = message?.id ?? `${id}-${i + 1}`;
    mapping[parent].children.push(node);
    mapping[node] = { id: node, message: message && { id: node, ...message }, parent, children: [] };
    parent = node;
  }
  return {
    id,
    title: id,
    create_time: 1_767_225_600,
    update_time: 1_767_225_700,
    mapping,
    current_node: parent,
    ...more,
  };
}

/** Another way on from a node, as an edit or a second answer makes it. */
function branch(conversation: Any, from: string, id: string, message: Any): Any {
  const copy = structuredClone(conversation);
  copy.mapping[from].children.push(id);
  copy.mapping[id] = { id, message: { id, ...message }, parent: from, children: [] };
  copy.current_node = id;
  return copy;
}

async function importChats(user: TestUser, chats: Any[], headers: Record<string, string> = {}) {
  const { status, body } = await user.request("POST", "/conversations/import", { body: chats, headers });
  assertEquals(status, 200, JSON.stringify(body));
  return body;
}

const messagesOf = async (user: TestUser, id: string): Promise<Any[]> =>
  (await user.request("GET", `/conversations/${id}/messages?limit=1000`)).body.data;
const contents = async (user: TestUser, id: string) => (await messagesOf(user, id)).map(({ content }) => content);
const conversationsOf = async (user: TestUser): Promise<Any[]> =>
  (await user.request("GET", "/conversations?limit=1000")).body.data;
const statuses = (body: Any) => body.conversations.map(({ status }: Any) => status);

// ---- what a message becomes -------------------------------------------------------------------------------------------

Deno.test("what was spoken is text, in context and search; a prompt beside an image is stored once", async () => {
  const alice = await signUp();
  const sound = { content_type: "audio_asset_pointer", asset_pointer: "sediment://file_0", format: "wav" };
  const image = { content_type: "image_asset_pointer", asset_pointer: "sediment://file_1", width: 1 };
  const spoken = (role: string, text: string) =>
    say(role, "", {
      content: {
        content_type: "multimodal_text",
        parts: [{ content_type: "audio_transcription", text, direction: "in" }, sound],
      },
    });
  const seen = say("user", "", { content: { content_type: "multimodal_text", parts: [image, "a quokka, or not?"] } });
  const { conversations: [{ new_id, left_out }] } = await importChats(alice, [
    chat("v", [
      spoken("user", "where is my umbrella"),
      spoken("assistant", "In the tram."),
      seen,
      say("assistant", "Yes."),
    ]),
  ]);
  assertEquals(left_out, undefined);
  const messages = await messagesOf(alice, new_id);
  assertEquals(messages.map(({ content, parts }) => [content, parts]), [
    ["where is my umbrella", [sound]],
    ["In the tram.", [sound]],
    ["a quokka, or not?", [image]],
    ["Yes.", null],
  ]);
  for (const word of ["umbrella", "quokka"]) {
    assertEquals((await alice.request("GET", `/conversations/search?q=${word}`)).body.data.length, 1, word);
  }
  // To a client of OpenAI it is a part that it knows.
  const items =
    (await alice.request("GET", `/openai/v1/conversations/conv_${new_id.replaceAll("-", "")}/items`)).body.data;
  const kinds = items.flatMap(({ content }: Any) => content.map(({ type }: Any) => type));
  assertEquals([...new Set(kinds)].toSorted(), ["input_text", "output_text"]);
  assert(JSON.stringify(items).includes("[image_asset_pointer sediment://file_1]"));
});

Deno.test("a tool's call and its result are a pair, and what has no pair is text", async () => {
  const alice = await signUp();
  const result = (text: string, name = "web.run") =>
    say("tool", "", { author: { role: "tool", name }, content: { content_type: "execution_output", text } });
  const call = (text: string, recipient = "web.run") =>
    say("assistant", "", { recipient, content: { content_type: "code", language: "json", text } });
  const { conversations: [{ new_id }] } = await importChats(alice, [chat("t", [
    say("user", "look it up"),
    result("from nowhere"),
    call('{"q":"zebra"}'),
    result("found"),
    result("found more"),
    call("print(1)", "python"),
    say("assistant", "nobody answered"),
  ])]);
  const messages = await messagesOf(alice, new_id);
  assertEquals(messages.map(({ role, content, tool_call_id }) => [role, content, tool_call_id]), [
    ["user", "look it up", null],
    ["assistant", "from nowhere", null],
    ["assistant", null, null],
    ["tool", "found", "call_t-3"],
    ["assistant", "found more", null],
    ["assistant", "print(1)", null],
    ["assistant", "nobody answered", null],
  ]);
  const { tool_calls, metadata } = messages[2];
  assertEquals(tool_calls, [{
    id: "call_t-3",
    type: "function",
    function: { name: "web_run", arguments: '{"q":"zebra"}' },
  }]);
  assertEquals(metadata.chatgpt.recipient, "web.run");
  assertEquals(messages[1].metadata.chatgpt, { role: "tool", name: "web.run", content_type: "execution_output" });
  const { explain } = (await alice.request("GET", `/conversations/${new_id}/context?explain=true`)).body;
  assertEquals(explain.left_out, []);
});

Deno.test("model, citations, attachments, archive, star and project are kept", async () => {
  const alice = await signUp();
  const references = [{ matched_text: "x", type: "webpage", items: [{ url: "https://example.com/a" }] }];
  const attachments = [{ id: "file-9", name: "invoice.pdf" }];
  const huge = Array.from({ length: 300 }, (_, i) => ({
    matched_text: `${i}`,
    items: [{ url: `https://example.com/${i}`, title: "t", snippet: "long ".repeat(50) }],
  }));
  const { conversations: [{ new_id }] } = await importChats(alice, [chat("k", [
    say("user", "q", { metadata: { attachments } }),
    say("assistant", "a", { metadata: { content_references: references, model_slug: "o3" } }),
    say("assistant", "b", { metadata: { content_references: huge } }),
  ], { default_model_slug: "gpt-5", is_archived: true, is_starred: true, gizmo_id: "g-p-1", is_study_mode: false })]);
  const messages = await messagesOf(alice, new_id);
  assertEquals(messages.map(({ model }) => model), [null, "o3", "gpt-5"]);
  assertEquals(messages[0].metadata.chatgpt, { attachments });
  assertEquals(messages[1].metadata.chatgpt, { content_references: references });
  assertEquals(messages[2].metadata.chatgpt.content_references.at(-1).items, [{
    url: "https://example.com/299",
    title: "t",
  }]);
  const conversation = (await alice.request("GET", `/conversations/${new_id}`)).body;
  assertEquals(conversation.metadata, {
    source: "chatgpt",
    source_id: "k",
    chatgpt: { default_model_slug: "gpt-5", is_archived: true, is_starred: true, gizmo_id: "g-p-1" },
  });
  assertEquals(Date.parse(conversation.archived_at), 1_767_225_700_000);
});

Deno.test("an odd node costs at most that node, and the report counts it", async () => {
  const alice = await signUp();
  const good = () => chat("odd", [say("user", "one"), say("assistant", "two"), say("user", "three")]);
  const odd: [name: string, change: (c: Any) => void, said: (string | null)[], left_out?: Any][] = [
    ["a node that is null", (c) => c.mapping["odd-2"] = null, ["one", "three"], { unreadable: 1 }],
    ["a message that is text", (c) => c.mapping["odd-2"].message = "?", ["one", "three"], { unreadable: 1 }],
    ["children that are null", (c) => Object.values(c.mapping).forEach((node: Any) => node.children = null), [
      "one",
      "two",
      "three",
    ]],
    ["parents alone", (c) => Object.values(c.mapping).forEach((node: Any) => delete node.children), [
      "one",
      "two",
      "three",
    ]],
    ["children alone", (c) => Object.values(c.mapping).forEach((node: Any) => delete node.parent), [
      "one",
      "two",
      "three",
    ]],
    ["no current node", (c) => delete c.current_node, ["one", "two", "three"]],
    ["a current node that is not there", (c) => c.current_node = "gone", ["one", "two", "three"]],
    ["no content type", (c) => delete c.mapping["odd-2"].message.content.content_type, ["one", "two", "three"]],
    ["content that is text", (c) => c.mapping["odd-2"].message.content = "two", ["one", "two", "three"]],
    ["no content", (c) => c.mapping["odd-2"].message.content = null, ["one", "three"], { empty: 1 }],
    ["parts that are objects", (c) => c.mapping["odd-2"].message.content.parts = [{ text: "two" }, null], [
      "one",
      "two",
      "three",
    ]],
    ["an id twice, saying the same", (c) => c.mapping["odd-3"].message = c.mapping["odd-2"].message, ["one", "two"], {
      repeated: 1,
    }],
    ["an id twice, saying something else", (c) => c.mapping["odd-3"].message.id = "odd-2", ["one", "two", "three"]],
    ["an id that is a number", (c) => c.mapping["odd-2"].message.id = 7, ["one", "two", "three"]],
    ["NUL", (c) => c.mapping["odd-2"].message.content.parts = ["t\0wo"], ["one", "t\0wo", "three"]],
    ["half of an emoji", (c) => c.mapping["odd-2"].message.content.parts = ["\ud83d"], ["one", "\ud83d", "three"]],
    ["NUL in an id", (c) => c.mapping["odd-2"].message.id = "\0", ["one", "three"], { unstorable: 1 }],
    ["half of an emoji in a name", (c) => c.mapping["odd-2"].message.author.name = "\ud83d", ["one", "three"], {
      unstorable: 1,
    }],
    ["no author", (c) => delete c.mapping["odd-2"].message.author, ["one", "two", "three"]],
    ["times of all kinds", (c) => {
      Object.assign(c, { create_time: null, update_time: "2026-01-01T00:01:40Z" });
      c.mapping["odd-1"].message.create_time = "1767225601.5";
      c.mapping["odd-2"].message.create_time = 1_767_225_602_000;
      c.mapping["odd-3"].message.create_time = 9e15;
    }, ["one", "two", "three"]],
    ["a circle", (c) => {
      c.mapping["odd-3"].children = ["odd-1"];
      c.mapping["odd-1"].parent = "odd-3";
      c.mapping.root.children = [];
    }, ["one", "two", "three"]],
    ["a title that is a number", (c) => c.title = 7, ["one", "two", "three"]],
    ["fields that nobody knows", (c) => c.more = { "\0": 1 }, ["one", "two", "three"]],
    ["fields that nobody keeps", (c) => c.more = { n: 2 ** 60 }, ["one", "two", "three"], { field: 1 }],
    ["no mapping", (c) => delete c.mapping, []],
  ];
  const chats = odd.map(([name, change]) => {
    const c = good();
    change(c);
    return { ...c, id: name };
  });
  const body = await importChats(alice, chats);
  assertEquals([body.imported, body.failed], [odd.length, 0], JSON.stringify(body.conversations));
  for (const [i, [name, , said, left_out]] of odd.entries()) {
    assertEquals(await contents(alice, body.conversations[i].new_id), said, name);
    assertEquals(body.conversations[i].left_out, left_out, name);
  }
  assertEquals(body.left_out, { unreadable: 2, empty: 1, repeated: 1, unstorable: 2, field: 1 });
  const timed = await messagesOf(
    alice,
    body.conversations[odd.findIndex(([name]) => name === "times of all kinds")].new_id,
  );
  assertEquals(timed.map(({ created_at }) => Date.parse(created_at) / 1000), [
    1_767_225_601.5,
    1_767_225_602,
    1_767_225_602,
  ]);

  // Nothing above a missing node is lost, and nothing below it.
  const torn = good();
  delete torn.mapping["odd-2"];
  const { conversations } = await importChats(alice, [{ ...torn, id: "torn" }]);
  const said = await Promise.all(conversations.map(({ new_id }: Any) => contents(alice, new_id)));
  assertEquals(said.flat().toSorted(), ["one", "three"]);
});

// ---- again --------------------------------------------------------------------------------------------------------------

Deno.test("importing again adds nothing; what has grown, or was changed, gets what is new", async () => {
  const [alice, bob] = await Promise.all([signUp(), signUp()]);
  const first = chat("c", [say("user", "q"), say("assistant", "a")]);
  const [{ new_id: id }] = (await importChats(alice, [first])).conversations;
  const again = await importChats(alice, [first, first]);
  assertEquals([again.imported, again.unchanged, again.messages, statuses(again)], [0, 2, 0, [
    "unchanged",
    "unchanged",
  ]]);
  assertEquals(again.conversations.map(({ new_id }: Any) => new_id), [id, id]);
  assertEquals(statuses(await importChats(bob, [first])), ["imported"], "somebody else's chat of that id");

  const longer = chat("c", [say("user", "q"), say("assistant", "a"), say("user", "q2"), say("assistant", "a2")], {
    update_time: 1_767_229_000,
  });
  const grown = await importChats(alice, [longer]);
  assertEquals([grown.grown, grown.messages, statuses(grown), grown.conversations[0].new_id], [1, 2, ["grown"], id]);
  assertEquals(await contents(alice, id), ["q", "a", "q2", "a2"]);
  assertEquals(Date.parse((await alice.request("GET", `/conversations/${id}`)).body.updated_at), 1_767_229_000_000);
  assertEquals((await conversationsOf(alice)).length, 1);

  // An edit in ChatGPT: what was the conversation is a branch of it now, and the other way round.
  const edited = branch(longer, "c-2", "edit", say("user", "edited"));
  const changed = await importChats(alice, [edited]);
  assertEquals(statuses(changed), ["imported", "unchanged"]);
  const [{ new_id: fork }] = changed.conversations;
  assertEquals(await contents(alice, fork), ["q", "a", "edited"]);
  assertEquals((await alice.request("GET", `/conversations/${fork}`)).body.parent_id, id);
  assertEquals(statuses(await importChats(alice, [edited])), ["unchanged", "unchanged"]);
  const back = { ...edited, current_node: "c-4" };
  assertEquals(statuses(await importChats(alice, [back])), ["unchanged", "unchanged"]);
  const answered = branch(edited, "edit", "answer", say("assistant", "to the edited one"));
  assertEquals(statuses(await importChats(alice, [answered])), ["grown", "unchanged"]);
  assertEquals(await contents(alice, fork), ["q", "a", "edited", "to the edited one"]);
  assertEquals((await conversationsOf(alice)).length, 2);

  const [{ new_id: empty }] = (await importChats(bob, [chat("e", [])])).conversations;
  assertEquals(statuses(await importChats(bob, [chat("e", [])])), ["unchanged"]);
  assertEquals(statuses(await importChats(bob, [chat("e", [say("user", "begun")])])), ["grown"]);
  assertEquals(await contents(bob, empty), ["begun"]);

  // Continued in both places: neither loses anything.
  await alice.request("POST", `/conversations/${id}/messages`, {
    body: { messages: [{ role: "user", content: "mine" }] },
  });
  const both = chat("c", [...["q", "a", "q2", "a2", "theirs"].map((text) => say("user", text))]);
  const forked = await importChats(alice, [both]);
  assertEquals(statuses(forked), ["imported"]);
  assertEquals(await contents(alice, forked.conversations[0].new_id), ["q", "a", "q2", "a2", "theirs"]);
  assertEquals(await contents(alice, id), ["q", "a", "q2", "a2", "mine"]);
  assertEquals(statuses(await importChats(alice, [both])), ["unchanged"]);
});

Deno.test("what was deleted: a message stays away, a conversation may come again, and nothing is remembered of it", async () => {
  const alice = await signUp();
  const said = chat("d", [say("user", "q"), say("assistant", "a"), say("user", "last")]);
  const [{ new_id: id }] = (await importChats(alice, [said])).conversations;
  for (const n of [1, 2]) {
    const message = (await messagesOf(alice, id)).at(-1);
    assertEquals((await alice.request("DELETE", `/conversations/${id}/messages/${message.id}`)).status, 204);
    if (n === 1) assertEquals(statuses(await importChats(alice, [said])), ["unchanged"]);
  }
  assertEquals(statuses(await importChats(alice, [said])), ["unchanged"]);
  assertEquals(await contents(alice, id), ["q"]);
  const more = chat("d", ["q", "a", "last", "new"].map((text) => say("user", text)));
  assertEquals(statuses(await importChats(alice, [more])), ["grown"]);
  assertEquals(await contents(alice, id), ["q", "new"]);

  const sql = connect();
  const remembered = () => sql`select from private.import_sources where user_id = ${alice.id}`;
  assertEquals((await remembered()).length, 1);
  assertEquals((await alice.request("DELETE", `/conversations/${id}`)).status, 204);
  assertEquals((await remembered()).length, 0);
  await sql.end();
  const again = await importChats(alice, [said]);
  assertEquals(statuses(again), ["imported"]);
  assertEquals(await contents(alice, again.conversations[0].new_id), ["q", "a", "last"]);
});

Deno.test("imports at the same moment make one copy, and a repeated key answers as the first time", async () => {
  const alice = await signUp();
  const chats = ["a", "b", "c"].map((id) =>
    branch(chat(id, [say("user", "q"), say("assistant", "a")]), `${id}-1`, `${id}-x`, say("assistant", "b"))
  );
  const bodies = await Promise.all([1, 2, 3, 4].map(() => importChats(alice, chats)));
  assertEquals(bodies.reduce((sum, { imported }) => sum + imported, 0), 6);
  assertEquals(bodies.reduce((sum, { unchanged }) => sum + unchanged, 0), 18);
  assertEquals((await conversationsOf(alice)).length, 6);

  const headers = { "idempotency-key": uuid() };
  const first = await importChats(alice, [chat("key", [say("user", "q")])], headers);
  assertEquals(statuses(first), ["imported"]);
  assertEquals(await importChats(alice, [chat("key", [say("user", "q")])], headers), first);
});

Deno.test("any converter may say which chat a line is, and whose it is nobody else learns", async () => {
  const [alice, bob] = await Promise.all([signUp(), signUp()]);
  const lines = (...values: unknown[]) => values.map((value) => `${JSON.stringify(value)}\n`).join("");
  const send = (user: TestUser, body: string) =>
    user.request("POST", "/conversations/import", { body, headers: { "content-type": "application/x-ndjson" } });
  const source = { name: "notes", id: "7" };
  const file = (...items: string[]) =>
    lines(
      { type: "conversation", id: "x", source },
      ...items.map((item_id) => ({ type: "message", role: "user", content: item_id, item_id })),
    );
  assertEquals((await send(alice, file("1", "2"))).body.imported, 1);
  const grown = (await send(alice, file("1", "2", "3"))).body;
  assertEquals([grown.grown, grown.messages], [1, 1]);
  assertEquals((await send(bob, file("1", "2"))).body.imported, 1);
  assertEquals((await send(alice, file("1", "2"))).body.unchanged, 1);
  for (const wrong of [{ name: "notes" }, { ...source, more: 1 }, { name: "", id: "7" }]) {
    const { body } = await send(alice, lines({ type: "conversation", id: "x", source: wrong }));
    assertEquals([body.failed, body.conversations[0].error.code], [1, "invalid_request"], JSON.stringify(wrong));
  }
  const unnamed = lines({ type: "conversation", id: "x", source }, { type: "message", role: "user", content: "?" });
  assertEquals((await send(alice, unnamed)).body.conversations[0].error.code, "invalid_request");
});

// ---- npm run import -----------------------------------------------------------------------------------------------------

async function npmImport(person: TestUser, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command("npm", {
    args: ["run", "--silent", "import", "--", ...args, "--url", apiUrl, "--token", person.token],
    cwd: root,
    env: { PUBLISHABLE_KEY: publishableKey },
  }).output();
  return { code, out: new TextDecoder().decode(stdout), progress: new TextDecoder().decode(stderr) };
}

Deno.test("npm run import takes the shards, the folder and the .zip of an export, and each again", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const shards = [0, 1, 2].map((
      n,
    ) => [chat(`a${n}`, [say("user", `q${n}`)]), chat(`b${n}`, [say("user", "NUL", { id: "\0" })])]);
    const writer = new ZipWriter(new Uint8ArrayWriter(), { useWebWorkers: false });
    const files: string[] = [];
    for (const [n, shard] of shards.entries()) {
      const name = `conversations-00${n}.json`;
      files.push(`${directory}/${name}`);
      await Deno.writeTextFile(files.at(-1)!, JSON.stringify(shard));
      await writer.add(`export/${name}`, new Blob([JSON.stringify(shard)]).stream());
    }
    await Deno.writeTextFile(`${directory}/user.json`, "{}");
    await writer.add("export/user.json", new Blob(["{}"]).stream());
    const zip = `${directory}/export.zip`;
    await Deno.writeFile(zip, await writer.close());

    const ways: [string, string[]][] = [["shards", files], ["folder", [directory]], ["zip", [zip]]];
    for (const [name, args] of ways) {
      const alice = await signUp();
      const first = await npmImport(alice, ...args);
      const expected = "Imported 6 conversations with 3 messages; 0 failed, 0 skipped; 3 notes (--verbose).\n";
      assertEquals([first.code, first.out], [0, expected], `${name}: ${first.progress}`);
      assertMatch(first.progress, /^Left out: 3 unstorable\.$/m);
      const again = await npmImport(alice, ...args);
      assertMatch(
        again.out,
        /^Imported 0 conversations with 0 messages; .*; 0 were there and have grown, 6 are unchanged/,
        name,
      );
    }

    const alice = await signUp();
    const missing = await npmImport(alice, `${directory}/nothing.zip`);
    assertEquals(missing.code, 1);
    await Deno.writeFile(zip, (await Deno.readFile(zip)).slice(0, 300));
    const cut = await npmImport(alice, zip);
    assertEquals([cut.code, cut.out], [1, ""]);
    assertMatch(cut.progress, /export\.zip: /);
    await Deno.mkdir(`${directory}/empty`);
    assertMatch((await npmImport(alice, `${directory}/empty`)).progress, /no conversations\.json is in it/);
    // What the API says of the reason is shown.
    const refused = await npmImport({ ...alice, token: `${alice.token}x` }, files[0]);
    assertMatch(refused.progress, /The API answered 401: unauthorized: /);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("a chat too large for a request comes in parts, grows in parts, and is the same when it was cut off between", async () => {
  const alice = await signUp();
  const text = "a word or two ".repeat(70);
  const large = (length: number) => chat("large", Array.from({ length }, (_, i) => say("user", `${i} ${text}`)));
  const file = await Deno.makeTempFile();
  const run = async (value: Any) => {
    await Deno.writeTextFile(file, JSON.stringify([value]));
    const { code, out, progress } = await npmImport(alice, file);
    assertEquals(code, 0, progress);
    return out;
  };
  const rows = async () => {
    const sql = connect();
    const found = await sql`
      select c.deleted_at is null as alive, c.last_sequence_order as last, count(*)::integer as messages
      from conversations c join conversation_messages m on m.conversation_id = c.id
      where c.user_id = ${alice.id} group by c.id`;
    await sql.end();
    return found.map((row) => Object.values(row));
  };
  try {
    // As a request leaves it after which none came.
    const part = large(1000);
    const lines = [
      { type: "conversation", id: "large", title: "large", more: true, source: { name: "chatgpt", id: "large" } },
      ...Object.values(part.mapping).filter((node: Any) => node.message).map((node: Any) => ({
        type: "message",
        role: "user",
        content: node.message.content.parts[0],
        item_id: node.id,
      })),
    ];
    const body = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
    const headers = { "content-type": "application/x-ndjson" };
    assertEquals((await alice.request("POST", "/conversations/import", { body, headers })).status, 200);
    assertEquals(await rows(), [[false, 1000, 1000]]);

    assertMatch(await run(large(7000)), /^Imported 1 conversations with 6000 messages/);
    assertEquals(await rows(), [[true, 7000, 7000]]);
    assertMatch(await run(large(7000)), /^Imported 0 .* 0 were there and have grown, 1 are unchanged/);
    assertMatch(
      await run(large(7010)),
      /^Imported 0 conversations with 10 messages; .*; 1 were there and have grown, 0 are/,
    );
    assertEquals(await rows(), [[true, 7010, 7010]]);
  } finally {
    await Deno.remove(file);
  }
});
