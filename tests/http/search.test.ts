import { assert, assertEquals, assertMatch } from "@std/assert";
import { backend, newConversation, signUp, type TestUser } from "../support/stack.ts";

interface Hit {
  conversation_id: string;
  title: string | null;
  message: { id: string; sequence_order: number; role: string; created_at: string } | null;
  snippet: string;
  score: number;
}

const alice = await signUp();

async function search(user: TestUser, q: string, query = ""): Promise<Hit[]> {
  const { status, body } = await user.request("GET", `/conversations/search?q=${encodeURIComponent(q)}${query}`);
  assertEquals(status, 200, `${q}: ${JSON.stringify(body)}`);
  return body.data;
}

/** A conversation of plain user messages. */
const say = (user: TestUser, ...contents: string[]) =>
  newConversation(user, { messages: contents.map((content) => ({ role: "user", content })) });

const numbers = (hits: Hit[]) => hits.map(({ message }) => message?.sequence_order).sort();

Deno.test("a hit says where it is", async () => {
  const user = await signUp();
  const id = await newConversation(user, {
    title: "Breakfast",
    messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "Where do flamingos sleep?" }],
  });
  const { body: { data: [, message] } } = await user.request("GET", `/conversations/${id}/messages`);
  const answer = await user.request("GET", "/conversations/search?q=flamingos");
  const [{ score }] = answer.body.data;
  assert(score > 0);
  assertEquals(answer.body, {
    data: [{
      conversation_id: id,
      title: "Breakfast",
      message: { id: message.id, sequence_order: 2, role: "user", created_at: message.created_at },
      snippet: "Where do <mark>flamingos</mark> sleep?",
      score,
    }],
    has_more: false,
    next_cursor: null,
  });
});

Deno.test("words, phrases, prefixes, exclusions and alternatives", async () => {
  const user = await signUp();
  await say(
    user,
    "The quick brown fox", // 1
    "A brown and quick bear", // 2
    "quicksand, foxglove", // 3
    "Le Café de la GARE, naïve", // 4
    "call private.caller_id(p_user_id)", // 5
    "don't panic", // 6
    "one two one two three", // 7
  );
  for (
    const [q, expected] of [
      ["quick", [1, 2]],
      ["QUICK Brown", [1, 2]],
      ['"quick brown"', [1]],
      ['"brown quick"', []],
      ["quick*", [1, 2, 3]],
      ['"brown f*"', [1]],
      ["bro", []],
      ["brown -fox", [2]],
      ['brown -"quick brown"', [2]],
      ["quick* -fox*", [2]],
      ["-quick", []],
      ["bear OR foxglove", [2, 3]],
      ["quick bear OR panic", [2, 6]],
      ['"and quick" OR "quick brown" -fox', [2]],
      ["OR panic OR", [6]],
      ["cafe gare", [4]],
      ["café NAIVE", [4]],
      ["caller_id", [5]],
      ["private.caller", [5]],
      ["caller.private", []],
      ["don't", [6]],
      ['"two one two three"', [7]],
      ['"one three"', []],
      ["quick bear nonesuch", []],
    ] as [string, number[]][]
  ) {
    assertEquals(numbers(await search(user, q)), expected, q);
  }
});

Deno.test("Chinese, Japanese and Korean text is found by any part of it", async () => {
  const user = await signUp();
  await say(
    user,
    "我昨天用GPT模型写了一首诗。", // 1
    "大语言模型的上下文很长", // 2
    "東京タワーに行きました。", // 3
    "안녕하세요 세계, 반갑습니다", // 4
    "型模", // 5
    "ＧＰＴ and ｶﾀｶﾅ", // 6
    "party 🎉 tonight", // 7
    "型の話と模範", // 8
  );
  for (
    const [q, expected] of [
      ["模型", [1, 2]],
      ["语言模型", [2]],
      ["语模", []],
      ["诗", [1]],
      ["我", [1]],
      ["型", [1, 2, 5, 8]],
      ["GPT模型", [1]],
      ["模型 GPT", [1]],
      ["gpt", [1, 6]],
      ["京タ", [3]],
      ["タワー", [3]],
      ["ました", [3]],
      ["カタカナ", [6]],
      ["하세", [4]],
      ["계", [4]],
      ["녕하세요 세", [4]],
      ['"하세요 세계"', [4]],
      ["型 -模型", [5, 8]],
      ["🎉", [7]],
    ] as [string, number[]][]
  ) {
    assertEquals(numbers(await search(user, q)), expected, q);
  }
  const [hit] = await search(user, "语言模型");
  assertEquals(hit.snippet, "大<mark>语言模型</mark>的上下文很长");
});

Deno.test("what is said is found in every shape: parts, calls, results, refusals, reasoning, transcripts", async () => {
  const user = await signUp();
  const call = { id: "call_1", type: "function", function: { name: "weather", arguments: '{"city":"Oslo"}' } };
  const id = await newConversation(user, {
    messages: [
      { role: "user", content: null, parts: [{ type: "text", text: "giraffe" }, { type: "text", text: "neck" }] },
      { role: "assistant", content: null, tool_calls: [call] },
      { role: "tool", tool_call_id: "call_1", content: "rainfall" },
      { role: "assistant", function_call: { name: "g", arguments: '{"where":"Bergen"}' } },
      {
        role: "assistant",
        parts: [{ type: "tool_use", id: "t", name: "f", input: { streets: ["Karl Johan"], n: 1 } }],
      },
      {
        role: "user",
        parts: [{ type: "tool_result", tool_use_id: "t", content: [{ type: "text", text: "crossing" }] }],
      },
      { role: "assistant", parts: [{ functionCall: { name: "f", args: { quarter: "Frogner" } } }] },
      { role: "user", parts: [{ functionResponse: { name: "f", response: { found: "fountain" } } }] },
      {
        role: "assistant",
        parts: [
          { type: "reasoning", text: "pondering" },
          {
            type: "tool-f",
            toolCallId: "x",
            state: "output-available",
            input: { dish: "lutefisk" },
            output: "delicious",
          },
        ],
      },
      { role: "assistant", parts: [{ type: "refusal", refusal: "unwilling" }] },
      {
        role: "user",
        parts: [{ type: "audio_transcription", text: "umbrella" }, { type: "input_audio", transcript: "tram" }],
      },
      {
        role: "user",
        parts: [{ type: "image_url", image_url: { url: "https://secretive.example.com/hidden.png" } }, {
          type: "file",
          file: { file_id: "file_concealed", file_data: "data:text/plain;base64,unreadable" },
        }],
      },
    ],
  });
  const items = [
    {
      type: "reasoning",
      id: "rs_1",
      summary: [{ type: "summary_text", text: "deliberation" }],
      encrypted_content: "cipher",
    },
    { type: "function_call", call_id: "c", name: "f", arguments: '{"harbour":"Aker"}' },
    { type: "function_call_output", call_id: "c", output: [{ type: "input_text", text: "ferry" }] },
    { type: "custom_tool_call", call_id: "d", name: "f", input: "handwritten" },
    { type: "mcp_call", id: "mcp_1", name: "f", arguments: "{}", output: "elsewhere", server_label: "label" },
  ];
  const path = `/openai/v1/conversations/conv_${id.replaceAll("-", "")}/items`;
  assertEquals((await user.request("POST", path, { body: { items } })).status, 200);
  const places = {
    giraffe: 1,
    neck: 1,
    oslo: 2,
    rainfall: 3,
    bergen: 4,
    "karl johan": 5,
    crossing: 6,
    frogner: 7,
    fountain: 8,
    pondering: 9,
    lutefisk: 9,
    delicious: 9,
    unwilling: 10,
    umbrella: 11,
    tram: 11,
    deliberation: 13,
    aker: 14,
    ferry: 15,
    handwritten: 16,
    elsewhere: 17,
  };
  for (const [q, place] of Object.entries(places)) assertEquals(numbers(await search(user, q)), [place], q);
  // Two parts are two texts, but one message.
  assertEquals(numbers(await search(user, "giraffe neck")), [1]);
  assertEquals((await search(user, "oslo"))[0].snippet, "weather {&quot;city&quot;:&quot;<mark>Oslo</mark>&quot;}");
  // Of JSON of more than 256 KiB the parts' own text.
  const large = { type: "tool_use", id: "t", name: "f", input: { notes: `outsized ${"x".repeat(262_144)}` } };
  await newConversation(user, {
    messages: [{ role: "assistant", parts: [{ type: "text", text: "overflowing" }, large] }],
  });
  assertEquals([(await search(user, "overflowing")).length, (await search(user, "outsized")).length], [1, 0]);
  // Addresses, ids, data, types and what only a provider can read say nothing.
  for (const q of ["secretive", "concealed", "unreadable", "cipher", "tool_use", "call_1", "available"]) {
    assertEquals(await search(user, q), [], q);
  }
});

Deno.test("titles are searched, and follow a rename", async () => {
  const id = await newConversation(alice, { title: "Übersicht der Pinguine" });
  const [hit] = await search(alice, "pinguine");
  assertEquals([hit.conversation_id, hit.message, hit.snippet], [id, null, "Übersicht der <mark>Pinguine</mark>"]);
  assertEquals((await search(alice, "ubersicht -pinguine")).length, 0);
  await alice.request("PATCH", `/conversations/${id}`, { body: { title: "北京旅行" } });
  assertEquals(await search(alice, "pinguine"), []);
  assertEquals((await search(alice, "京旅")).map((h) => h.conversation_id), [id]);
});

Deno.test("what is more about it comes first", async () => {
  const user = await signUp();
  const filler = "and so on ".repeat(60);
  await say(user, `walrus ${filler}`, "walrus walrus walrus", "a walrus", `walrus walrus ${filler}`);
  const hits = await search(user, "walrus");
  assertEquals(hits.map((h) => h.message!.sequence_order), [2, 3, 4, 1]);
  const scores = hits.map((h) => h.score);
  assertEquals(scores, scores.toSorted((a, b) => b - a));
  const title = await newConversation(user, { title: "Walrus" });
  assertEquals((await search(user, "walrus"))[0].conversation_id, title);
});

Deno.test("a snippet shows the place, escaped", async () => {
  const text = `<script>alert("ibex & 'co'")</script> and the Ibéx again`;
  await say(alice, `${"before ".repeat(100)}${text} ${"after ".repeat(100)}`);
  const [{ snippet }] = await search(alice, "ibex OR lt");
  assertMatch(snippet, /^….*…$/);
  assert(snippet.length < 500, snippet);
  assert(
    snippet.includes(
      "&lt;script&gt;alert(&quot;<mark>ibex</mark> &amp; &#39;co&#39;&quot;)&lt;/script&gt; and the <mark>Ibéx</mark> again",
    ),
    snippet,
  );
  assertEquals(snippet.replaceAll("<mark>", "").replaceAll("</mark>", "").match(/[<>"']/), null);
});

Deno.test("pages follow each other without a repeat or a gap, appends going on", async () => {
  const user = await signUp();
  const id = await say(user, ...Array.from({ length: 25 }, (_, i) => `ocelot ${"x ".repeat(i % 4)}`));
  await newConversation(user, { title: "ocelot" });
  const expected = (await search(user, "ocelot")).map((h) => h.message?.id ?? h.conversation_id);
  assertEquals(new Set(expected).size, 26);

  const seen: string[] = [];
  let cursor: string | null = null;
  do {
    const query: string = cursor ? `&cursor=${cursor}` : "";
    const { status, body } = await user.request("GET", `/conversations/search?q=ocelot&limit=4${query}`);
    assertEquals([status, body.has_more], [200, body.next_cursor !== null]);
    seen.push(...body.data.map((h: Hit) => h.message?.id ?? h.conversation_id));
    cursor = body.next_cursor;
    // What comes in between ranks above the page that was read, or below it, and moves nothing.
    await user.request("POST", `/conversations/${id}/messages`, {
      body: { messages: [{ role: "user", content: "ocelot ocelot ocelot" }] },
    });
  } while (cursor);
  assertEquals(seen, expected);
  // An exact end of a page is an end.
  const { body } = await user.request("GET", "/conversations/search?q=title OR zzz&limit=1");
  assertEquals([body.data, body.has_more, body.next_cursor], [[], false, null]);
});

Deno.test("nobody finds what is somebody else's", async () => {
  const [owner, stranger] = [await signUp(), await signUp()];
  const id = await newConversation(owner, { title: "capybara", messages: [{ role: "user", content: "a capybara" }] });
  for (const q of ["capybara", "capy*", '"a capybara"', "capybara OR x -y"]) {
    assertEquals((await search(owner, q)).length, q === '"a capybara"' ? 1 : 2, q);
    assertEquals(await search(stranger, q), [], q);
  }
  const path = "/conversations/search?q=capybara";
  const forOwner = await backend(owner.id)("GET", path);
  assertEquals(forOwner.body.data.map((h: Hit) => h.conversation_id), [id, id]);
  const forStranger = await backend(stranger.id)("GET", path);
  assertEquals(forStranger.body.data, []);
  const forNobody = await backend()("GET", path);
  assertEquals([forNobody.status, forNobody.body.code], [400, "user_id_required"]);
  const ignored = await stranger.request("GET", path, { headers: { "x-user-id": owner.id } });
  assertEquals(ignored.body.data, []);
  // Nor by calling the function, whose argument counts for a backend only.
  const { data } = await stranger.client.rpc("search_messages", { p_query: "capybara", p_user_id: owner.id });
  assertEquals((data as unknown as { data: Hit[] }).data, []);
});

Deno.test("a shared message is one hit: of its owner, else of the oldest living fork that shows it", async () => {
  const user = await signUp();
  const fork = async (id: string, at: number): Promise<string> =>
    (await user.request("POST", `/conversations/${id}/fork`, { body: { at } })).body.id;
  const found = async (q: string) => (await search(user, q)).map((h) => h.conversation_id);

  const root = await say(user, "lynx one", "lemur two", "gecko three", "heron four");
  const short = await fork(root, 1);
  const older = await fork(root, 2);
  const younger = await fork(root, 3);
  await user.request("POST", `/conversations/${younger}/messages`, {
    body: { messages: [{ role: "user", content: "iguana" }] },
  });
  const deep = await fork(younger, 4);

  assertEquals(await found("lynx"), [root]);
  assertEquals(await found("iguana"), [younger]);

  await user.request("DELETE", `/conversations/${root}`);
  assertEquals(await found("lynx"), [short]);
  assertEquals(await found("lemur"), [older]);
  assertEquals(await found("gecko"), [younger]);
  assertEquals(await found("heron"), [], "nothing shows it");

  // Through a tombstone below a tombstone.
  await user.request("DELETE", `/conversations/${younger}`);
  assertEquals(await found("gecko"), [deep]);
  assertEquals(await found("iguana"), [deep]);
  const [hit] = await search(user, "gecko");
  const shown = await user.request("GET", `/conversations/${hit.conversation_id}/messages`);
  assertEquals(shown.body.data[hit.message!.sequence_order - 1].id, hit.message!.id);

  for (const id of [short, older, deep]) await user.request("DELETE", `/conversations/${id}`);
  for (const q of ["lynx", "lemur", "gecko", "iguana"]) assertEquals(await found(q), [], q);
});

Deno.test("what is deleted is not found", async () => {
  const id = await newConversation(alice, {
    title: "quokka title",
    messages: [{ role: "user", content: "quokka one" }, { role: "user", content: "quokka two" }],
  });
  const hits = await search(alice, "quokka");
  assertEquals(hits.length, 3);
  const one = hits.find((h) => h.message?.sequence_order === 1)!;
  await alice.request("DELETE", `/conversations/${id}/messages/${one.message!.id}`);
  assertEquals((await search(alice, "quokka")).map((h) => h.message?.sequence_order).sort(), [2, undefined]);
  await alice.request("DELETE", `/conversations/${id}`);
  assertEquals(await search(alice, "quokka"), []);
});

Deno.test("no query is an error", async () => {
  await say(alice, "needle in a haystack, 100% \\ ' : & | ! ( ) <-> * \" -");
  const words = (n: number, word: (i: number) => string) =>
    Array.from({ length: n }, (_, i) => word(i)).join(" ").slice(0, 1000);
  for (
    const q of [
      " ",
      "'",
      '"',
      '"""',
      "\\",
      "*",
      "-",
      "--",
      "- -",
      "OR",
      "OR OR",
      "-a OR -b",
      ":*",
      "a:*b",
      "!!",
      "<->",
      "a <2> b & (c | !d",
      "'); drop table conversations; --",
      "(?i)[[.",
      "a{1,999} (?<!x) \\1 [^",
      "%_%",
      "\u0001\u0002 <mark>",
      "\u200b\u200d\ufe0f",
      "e\u0301 \u0301",
      "x".repeat(1000),
      "字".repeat(1000),
      '"'.repeat(999),
      words(500, (i) => String.fromCharCode(97 + i % 26)),
      words(500, (i) => String.fromCharCode(0x4e00 + i)),
      words(300, (i) => `${String.fromCharCode(97 + i % 26)}${String.fromCharCode(0x4e00 + i)}`),
      words(200, (i) => `-${i} OR`),
      Array.from({ length: 300 }, (_, i) => `a${String.fromCharCode(0x4e00 + i)}`).join("").slice(0, 1000),
    ]
  ) {
    const started = performance.now();
    const { status, body } = await alice.request("GET", `/conversations/search?q=${encodeURIComponent(q)}`);
    assertEquals(status, 200, `${q} ${JSON.stringify(body)}`);
    assert(performance.now() - started < 3000, `${q} took too long`);
  }
  assertEquals((await search(alice, "needle <-> !(camel)")).length, 0);
  assertEquals((await search(alice, "needle & 'haystack':*")).length, 1);
});

Deno.test("a long message is stored, and found by what it begins with", async () => {
  const blob = Array.from({ length: 500 }, () => crypto.randomUUID().replaceAll("-", "")).join("");
  const han = Array.from({ length: 40_000 }, (_, i) => String.fromCodePoint(0x20000 + i)).join("");
  await say(alice, `axolotl ${blob}`, `axolotl ${han}`, `axolotl ${"word ".repeat(100_000)}`);
  assertEquals(numbers(await search(alice, "axolotl")), [1, 2, 3]);
  assertEquals(numbers(await search(alice, blob.slice(0, 200) + "*")), [1]);
  assertEquals(numbers(await search(alice, blob.slice(0, 100) + "zz*")), []);
  assertEquals(numbers(await search(alice, String.fromCodePoint(0x20100, 0x20101, 0x20102))), [2]);
});

Deno.test("what the query string cannot say is refused", async () => {
  for (
    const [query, path] of [
      ["", "q"],
      ["?q=", "q"],
      [`?q=${"x".repeat(1001)}`, "q"],
      ["?q=a%00b", "q"],
      ["?q=a&limit=0", "limit"],
      ["?q=a&limit=1001", "limit"],
      ["?q=a&cursor=x", "cursor"],
      ["?q=a&cursor=!", "cursor"],
      [`?q=a&cursor=${btoa("1|2020-01-01T00:00:00+00:00|x").replaceAll("=", "")}`, "cursor"],
      [`?q=a&cursor=${btoa(`NaN|2020-01-01T00:00:00+00:00|${alice.id}`).replaceAll("=", "")}`, "cursor"],
      ["?q=a&offset=1", "offset"],
    ]
  ) {
    const { status, body } = await alice.request("GET", `/conversations/search${query}`);
    assertEquals([status, body.code, body.details?.[0].path], [400, "invalid_request", path], query);
  }
  for (const method of ["POST", "PATCH", "DELETE"]) {
    const { status, headers } = await alice.request(method, "/conversations/search?q=a");
    assertEquals([status, headers.get("allow")], [405, "GET, HEAD"], method);
  }
});

Deno.test("rows inserted through the REST API are found as well", async () => {
  const id = await newConversation(alice);
  const { error } = await alice.client.from("conversation_messages").insert({
    conversation_id: id,
    role: "user",
    content: "narwhal 模型",
  });
  assertEquals(error, null);
  assertEquals((await search(alice, "narwhal 模")).map((h) => h.conversation_id), [id]);
});

Deno.test("an import that is not finished takes no place among the hits", async () => {
  const user = await signUp();
  const id = await newConversation(user, { messages: [{ role: "user", content: "a zebra I own" }] });
  const { data: hidden } = await user.client.rpc("import_conversation", {
    p_conversation: { more: true },
    p_messages: Array.from({ length: 60 }, (_, i) => ({ sequence_order: i + 1, role: "user", content: `zebra ${i}` })),
  }).throwOnError();
  const { body } = await user.request("GET", "/conversations/search?q=zebra");
  assertEquals([body.data.map((hit: { conversation_id: string }) => hit.conversation_id), body.has_more], [
    [id],
    false,
  ]);
  // The control: finished, it is found.
  await user.client.rpc("import_conversation", { p_conversation: { continues: (hidden as { id: string }).id } })
    .throwOnError();
  assertEquals((await user.request("GET", "/conversations/search?q=zebra")).body.has_more, true);
});

Deno.test("a Korean syllable is not found inside another", async () => {
  const user = await signUp();
  await newConversation(user, { messages: [{ role: "user", content: "하나 한국".normalize("NFD") }] });
  const { body } = await user.request("GET", `/conversations/search?q=${encodeURIComponent("하")}`);
  assertEquals(body.data.map((hit: { snippet: string }) => hit.snippet), ["<mark>하</mark>나 한국"]);
});
