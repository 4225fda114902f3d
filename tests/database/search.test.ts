// What a search reads: the filters of 64 messages each, which cost time when they are missing, and never a match.
import { assert, assertEquals } from "@std/assert";
import type postgres from "postgres";
import { random } from "../support/context.ts";
import { connect, newConversation, signUp } from "../support/stack.ts";

type Sql = postgres.Sql | postgres.TransactionSql;

/** Runs `test` as a new user in a transaction that is rolled back. */
async function asUser(test: (tx: postgres.TransactionSql, me: string) => Promise<void>): Promise<void> {
  const sql = connect();
  const rolledBack = new Error("rolled back");
  try {
    await sql.begin(async (tx) => {
      const me = crypto.randomUUID();
      await tx`insert into auth.users (id, email) values (${me}, ${me + "@example.com"})`;
      await tx`select set_config('request.jwt.claims', ${JSON.stringify({ sub: me, role: "authenticated" })}, true)`;
      await test(tx, me);
      throw rolledBack;
    });
  } catch (error) {
    if (error !== rolledBack) throw error;
  } finally {
    await sql.end();
  }
}

/** What private.search_filter_step does, for the blocks of these conversations alone. */
async function fill(tx: Sql, ids: string[]): Promise<void> {
  await tx`
    update private.search_filters f set (up_to_sequence, words) =
      (select m.up_to_sequence, m.words from private.make_search_filter(f.conversation_id, f.block) m)
    where f.conversation_id = any (${ids}) and f.words is null`;
}

async function append(tx: Sql, id: string, contents: string[]): Promise<{ id: string }[]> {
  const messages = contents.map((content) => ({ role: "user", content }));
  const [{ answer }] = await tx`select append_messages(${id}, ${tx.json(messages)}) as answer`;
  return answer.messages;
}

async function create(tx: Sql): Promise<string> {
  const [{ conversation }] = await tx`select create_conversation() as conversation`;
  return conversation.id;
}

async function search(tx: Sql, query: string): Promise<unknown> {
  const [{ answer }] = await tx`select search_messages(${query}, 200) as answer`;
  return answer;
}

Deno.test("a search reads the blocks that may have its words", async () => {
  await asUser(async (tx, me) => {
    const users = [me, ...Array.from({ length: 20 }, () => crypto.randomUUID())];
    await tx`insert into auth.users (id, email) select u, u || '@example.com' from unnest(${users.slice(1)}::uuid[]) u`;
    // 1,280 messages each, in 20 blocks.
    const conversations = await tx`
      insert into conversations (user_id, last_sequence_order) select u, 1280 from unnest(${users}::uuid[]) u
      returning id, user_id`;
    const ids = conversations.map(({ id }) => id);
    const own = conversations.find(({ user_id }) => user_id === me)!.id;
    await tx`
      insert into conversation_messages (conversation_id, user_id, sequence_order, role, content)
      select c.id, c.user_id, n, 'user', 'the common word and 语言模型 number' || n || ' block' || (n - 1) / 64
      from generate_series(1, 1280) n, conversations c where c.id = any (${ids})`;
    await tx`analyze conversations`;
    await tx`analyze conversation_messages`;

    const blocks = async (query: string): Promise<number> => {
      const [row] = await tx.unsafe(
        "explain (analyze, buffers, format json) select public.search_messages($1)",
        [query],
      );
      const { Plan } = row["QUERY PLAN"][0];
      return Plan["Shared Hit Blocks"] + Plan["Shared Read Blocks"];
    };
    await search(tx, "warm");
    const unfiltered = await blocks("block7 number450");
    await fill(tx, ids);
    await search(tx, "warm");
    const filtered = await blocks("block7 number450");
    // One block of 20, and now and then another by chance.
    assert(filtered < unfiltered / 4, `${filtered} blocks of ${unfiltered}`);
    // Everybody has this word. Of one's own messages each is read twice at most; 21 users have 27,000.
    const common = await blocks("common");
    assert(common < 2 * 1280 + 500, `${common} blocks`);

    const may = async (query: string) =>
      (await tx`
        select f.block from private.search_filters f, private.parse_search(${query}) s
        where f.conversation_id = ${own} and private.may_match(f.words, s.o_word_groups, s.o_words)
        order by f.block`).map(({ block }) => block);
    const everywhere = Array.from({ length: 20 }, (_, i) => i);
    assertEquals(await may("common"), everywhere);
    assertEquals(await may("模型"), everywhere);
    for (
      const [query, expected] of [["block7", [7]], ["block3 OR block12", [3, 12]], ["block3 number66", []]] as const
    ) {
      const found = await may(query);
      assertEquals(expected.filter((block) => !found.includes(block)), [], query);
      assert(found.length <= expected.length + 6, `${query}: ${found}`);
    }

    for (
      const [query, expected] of [
        ['"common word" number17', 1],
        ["number127*", 11],
        ["模", 200],
        ["number7 OR number8", 2],
        ["block3 -number200", 63],
        ["block3 number66", 0],
      ] as const
    ) {
      const answer = await search(tx, query) as { data: unknown[] };
      assertEquals(answer.data.length, expected, query);
    }
  });
});

Deno.test("filters change no answer, whatever they have missed", async () => {
  const words = "ant bee cat dog eel fox gnu hen ibis jay koi lynx 语言模型 模型语言 émeu".split(" ");
  const queries = [
    "ant",
    "ant bee",
    "cat OR koi",
    "fo*",
    '"dog eel"',
    "gnu -hen",
    "语言",
    "型",
    "emeu",
    "z OR ly*",
    "nothing",
  ];
  const seed = Math.floor(Math.random() * 2 ** 31);
  const next = random(seed);
  const pick = <T>(values: T[]): T => values[Math.floor(next() * values.length)];
  await asUser(async (tx, me) => {
    const ids = [await create(tx)];
    let isFilled = 0;
    for (let step = 0; step < 120; step++) {
      const id = pick(ids);
      const dice = next();
      if (dice < 0.45) {
        const contents = Array.from({ length: pick([1, 2, 7, 63, 64, 65]) }, () => `${pick(words)} ${pick(words)}`);
        await append(tx, id, contents);
      } else if (dice < 0.55) {
        ids.push(await create(tx));
      } else if (dice < 0.7) {
        const [{ last }] = await tx`select last_sequence_order as last from conversations where id = ${id}`;
        const at = Math.floor(next() * (last + 1));
        const [{ fork }] = await tx`select fork_conversation(${id}, ${at}) as fork`;
        ids.push(fork.id);
      } else if (dice < 0.8) {
        const [message] = await tx`
          select id from conversation_messages
          where conversation_id = ${id} order by sequence_order offset ${Math.floor(next() * 70)} limit 1`;
        if (message) await tx`select delete_message(${id}, ${message.id})`;
      } else if (dice < 0.85 && ids.length > 1) {
        await tx`select delete_conversation(${id})`;
        ids.splice(ids.indexOf(id), 1);
      } else {
        await fill(tx, [id]);
      }
      if (step % 10 < 9) continue;

      const withFilters: unknown[] = [];
      for (const query of queries) withFilters.push(await search(tx, query));
      const [{ filled }] = await tx`
        select count(f.words)::int as filled
        from private.search_filters f join conversations c on c.id = f.conversation_id where c.user_id = ${me}`;
      isFilled += filled;
      await tx.savepoint(async (sp) => {
        await sp`
          delete from private.search_filters f using conversations c where c.id = f.conversation_id and c.user_id = ${me}`;
        for (const [i, query] of queries.entries()) {
          assertEquals(withFilters[i], await search(sp, query), `seed ${seed}, step ${step}: ${query}`);
        }
        throw new Error("restore");
      }).catch((error) => {
        if (error.message !== "restore") throw error;
      });
    }
    assert(isFilled > 0);
  });
});

Deno.test("a filter has every word that the text is found by", async () => {
  const found = [
    ["ΟΔΟΣ", "οδος"],
    ["ΟΔΟΣ", "οδοσ"],
    ["ISTANBUL", "ıstanbul"],
    ["한국", "한ㄱ"],
    ["はがき", "はか゛き"],
    ["バス停", "バス"],
    ["ｶﾞｷﾞ", "ガギ"],
    ["အဦ", "အဥ"],
    ["ဦအ", "ီအ"],
    ["Straße", "straẞe"],
    ["㍿", "株式会社"],
    ["👨‍👩‍👧 fam", "👨‍👩‍👧"],
    ["語a言", '"語 a"'],
    ["x".repeat(80), "x".repeat(80)],
    [`${"x ".repeat(16_382)}beginning`, "begi"], // cut after 32,768 characters
  ] as const;
  const missed = [["かぎ", "かき"], ["カバ", "カハ"], ["が", "か"], ["한국", "하"]] as const;
  await asUser(async (tx) => {
    const id = await create(tx);
    await append(tx, id, [...found, ...missed].map(([text]) => text));
    const numbers = async (query: string) => {
      const { data } = await search(tx, query) as { data: { message: { sequence_order: number } }[] };
      return data.map(({ message }) => message.sequence_order);
    };
    for (const when of ["without a filter", "with one"]) {
      for (const [i, [text, query]] of found.entries()) {
        assert((await numbers(query)).includes(i + 1), `${text.slice(0, 20)}, ${query}: ${when}`);
      }
      for (const [i, [text, query]] of missed.entries()) {
        assert(!(await numbers(query)).includes(found.length + i + 1), `${text}, ${query}: ${when}`);
      }
      await fill(tx, [id]);
    }
  });
});

Deno.test("more words than a filter can tell apart are a filter that has them all", async () => {
  await asUser(async (tx) => {
    const id = await create(tx);
    const words = Array.from({ length: 40_000 }, (_, i) => i.toString(36));
    await append(tx, id, [0, 1, 2, 3, 4, 5, 6, 7].map((n) => words.slice(n * 5000, (n + 1) * 5000).join(" ")));
    await fill(tx, [id]);
    const [filter] = await tx`
      select encode(f.words, 'hex') as words, private.may_match(f.words, s.o_word_groups, s.o_words) as may_match
      from private.search_filters f, private.parse_search('elsewhere') s where f.conversation_id = ${id}`;
    assertEquals({ ...filter }, { words: "ff", may_match: true });
  });
});

Deno.test("a message that is deleted while its filter is made leaves nothing there", async () => {
  const [job, sql] = [connect(), connect()];
  const user = await signUp();
  try {
    const id = await newConversation(user, { messages: [{ role: "user", content: "secret" }] });
    const { body: { data: [message] } } = await user.request("GET", `/conversations/${id}/messages`);
    let deleted: Promise<{ status: number }> | undefined;
    await job.begin(async (tx) => {
      await fill(tx, [id]);
      const [{ filled, pid }] = await tx`
        select count(words)::int as filled, pg_backend_pid() as pid
        from private.search_filters where conversation_id = ${id}`;
      assertEquals(filled, 1, "the control");
      deleted = user.request("DELETE", `/conversations/${id}/messages/${message.id}`);
      for (let tries = 0; tries < 100; tries++) {
        const [{ waits }] = await sql`
          select exists (select from pg_stat_activity a where ${pid} = any (pg_blocking_pids(a.pid))) as waits`;
        if (waits) break;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    });
    assertEquals((await deleted!).status, 204);
    const filters = await sql`select words from private.search_filters where conversation_id = ${id}`;
    assertEquals(filters.map(({ words }) => words), [null]);
  } finally {
    await Promise.all([job.end(), sql.end()]);
  }
});

Deno.test("a filter forgets a message that is deleted, and what is cut off a history", async () => {
  await asUser(async (tx) => {
    const id = await create(tx);
    const messages = await append(tx, id, [...Array(129).fill("chaff"), "secret", "wheat"]);
    await append(tx, id, Array(70).fill("late"));
    const [{ fork }] = await tx`select fork_conversation(${id}, 129) as fork`;
    const knows = async (word: string) => {
      const [row] = await tx`
        select coalesce(array_agg(f.block order by f.block), '{}') as blocks
        from private.search_filters f, private.parse_search(${word}) s
        where f.conversation_id = ${id} and private.may_match(f.words, s.o_word_groups, s.o_words)`;
      return row.blocks;
    };
    await fill(tx, [id]);
    assertEquals(await knows("secret"), [2]);
    await tx`select delete_message(${id}, ${messages[129].id})`;
    assertEquals(await knows("secret"), [], "at once");
    await fill(tx, [id]);
    assertEquals(await knows("secret"), []);
    assertEquals(await knows("wheat"), [2]);

    // The fork shows the first 129 of what is now nobody's else.
    await tx`select delete_conversation(${id})`;
    await fill(tx, [id]);
    assertEquals(await knows("wheat"), []);
    assertEquals(await knows("late"), []);
    assertEquals(await knows("chaff"), [0, 1, 2]);
    await tx`select delete_conversation(${fork.id})`;
    const left = await tx`select from private.search_filters where conversation_id = any (${[id, fork.id]})`;
    assertEquals(left.length, 0);
  });
});

Deno.test("the job fills blocks that are complete, and those of conversations that are quiet", async () => {
  const sql = connect();
  try {
    const user = await signUp();
    const say = async (count: number) => {
      const messages = Array.from({ length: count }, () => ({ role: "user", content: "hello" }));
      const { status } = await user.request("POST", `/conversations/${id}/messages`, { body: { messages } });
      assertEquals(status, 201);
    };
    const id = await newConversation(user);
    const filters = async () =>
      (await sql`
        select block, up_to_sequence as up_to, words is not null as filled
        from private.search_filters where conversation_id = ${id} order by block`).map((row) => ({ ...row }));
    /** Until there is nothing to do; the stack's own job may be at it. */
    const run = async () => {
      for (let tries = 0; tries < 200; tries++) {
        const [{ more }] = await sql`select private.search_filter_step() as more`;
        const [{ due }] = await sql`
          select count(*)::int as due
          from private.search_filters f join conversations c on c.id = f.conversation_id
          where c.user_id = ${user.id} and f.words is null
            and (c.last_sequence_order >= f.block * 64 + 64 or c.updated_at < now() - interval '10 minutes')`;
        if (!more && due === 0) return;
        if (!more) await new Promise((resolve) => setTimeout(resolve, 50));
      }
      throw new Error("The job does not come to an end");
    };

    await say(100);
    assertEquals(await filters(), [
      { block: 0, up_to: 0, filled: false },
      { block: 1, up_to: 0, filled: false },
    ]);
    await run();
    assertEquals(await filters(), [
      { block: 0, up_to: 64, filled: true },
      { block: 1, up_to: 0, filled: false },
    ]);
    await sql`update conversations set updated_at = now() - interval '11 minutes' where id = ${id}`;
    await run();
    assertEquals((await filters())[1], { block: 1, up_to: 100, filled: true });

    // It goes on: the filter of its last block lacks what is new until that block is complete.
    await say(28);
    await run();
    assertEquals((await filters())[1], { block: 1, up_to: 100, filled: true });
    await say(2);
    assertEquals((await filters()).slice(1), [
      { block: 1, up_to: 0, filled: false },
      { block: 2, up_to: 0, filled: false },
    ]);
    await run();
    assertEquals((await filters()).slice(1), [
      { block: 1, up_to: 128, filled: true },
      { block: 2, up_to: 0, filled: false },
    ]);
    await sql`delete from conversations where id = ${id}`;
    assertEquals(await filters(), []);
  } finally {
    await sql.end();
  }
});
