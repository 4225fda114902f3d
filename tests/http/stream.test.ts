import { assert, assertEquals } from "@std/assert";
import { apiUrl, backend, connect, publishableKey, request, secretKey, signUp, uuid } from "../support/stack.ts";

const alice = await signUp();
const mallory = await signUp();

interface Message {
  id?: string;
  event?: string;
  data: string;
}

/** A reader as the specification of server-sent events has it: one message for each blank line, comments aside. */
class Reader {
  readonly comments: string[] = [];
  retry?: number;
  #rest = "";
  #bytes = 0;

  private constructor(readonly response: Response) {}

  static async open(path: string, headers: Record<string, string> = {}): Promise<Reader> {
    return new Reader(
      await fetch(`${apiUrl}/functions/v1${path}`, {
        headers: { apikey: publishableKey, authorization: `Bearer ${alice.token}`, ...headers },
      }),
    );
  }

  /** Ends when the server does, or is cut off once so many bytes have come, wherever in a message that is. */
  async *messages(maxBytes = Infinity): AsyncGenerator<Message> {
    const decoder = new TextDecoder();
    for await (const chunk of this.response.body ?? []) {
      const left = maxBytes - this.#bytes;
      this.#bytes += chunk.length;
      this.#rest += decoder.decode(chunk.subarray(0, Math.max(left, 0)), { stream: true });
      const blocks = this.#rest.split("\n\n");
      this.#rest = blocks.pop()!;
      for (const block of blocks) {
        const fields = block.split("\n").map((
          line,
        ) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]);
        const field = (name: string) => fields.filter(([key]) => key === name).map(([, value]) => value);
        this.comments.push(...field(""));
        if (field("retry")[0]) this.retry = Number(field("retry")[0]);
        if (field("data").length > 0) {
          yield { id: field("id")[0], event: field("event")[0], data: field("data").join("\n") };
        }
      }
      if (this.#bytes >= maxBytes) return; // leaving the loop closes the connection
    }
  }
}

async function newSession(): Promise<string> {
  return (await alice.request("POST", "/sessions", { body: {} })).body.id;
}

async function log(id: string, ...texts: string[]): Promise<void> {
  const events = texts.map((text) => ({ event_type: "ai_chunk", content: { text } }));
  const { status } = await alice.request("POST", `/sessions/${id}/events`, { body: { events } });
  assertEquals(status, 201);
}

const end = (id: string) => alice.request("POST", `/sessions/${id}/end`, { body: {} });

Deno.test("what is there comes at once, what happens comes soon, and the end ends it", async () => {
  const id = await newSession();
  await log(id, "one", "two");
  const reader = await Reader.open(`/sessions/${id}/events/stream`);
  assertEquals([reader.response.status, reader.response.headers.get("content-type")], [200, "text/event-stream"]);
  assertEquals(reader.response.headers.get("access-control-allow-origin"), "*");
  const received: Message[] = [];
  for await (const message of reader.messages()) {
    received.push(message);
    if (received.length === 2) await log(id, "three");
    if (received.length === 3) {
      await log(id, "four\nwith a line", "");
      await end(id);
    }
  }
  const { body: { data } } = await alice.request("GET", `/sessions/${id}/events`);
  const { body: session } = await alice.request("GET", `/sessions/${id}`);
  assertEquals(received.map((message) => message.id), ["1", "2", "3", "4", "5", undefined]);
  assertEquals(received.slice(0, 5).map((message) => JSON.parse(message.data)), data);
  assertEquals([received[5].event, JSON.parse(received[5].data)], ["end", session]);
  assert(reader.retry! >= 500);
});

Deno.test("it begins behind `after`, or behind Last-Event-ID, which counts when both are there", async () => {
  const id = await newSession();
  await log(id, "1", "2", "3", "4");
  await end(id);
  const numbers = async (query: string, headers = {}) => {
    const reader = await Reader.open(`/sessions/${id}/events/stream${query}`, headers);
    return (await Array.fromAsync(reader.messages())).map((message) => message.id ?? message.event);
  };
  assertEquals(await numbers(""), ["1", "2", "3", "4", "end"]);
  assertEquals(await numbers("?after=2"), ["3", "4", "end"]);
  assertEquals(await numbers("", { "last-event-id": "3" }), ["4", "end"]);
  assertEquals(await numbers("?after=1", { "last-event-id": "3" }), ["4", "end"]);
  assertEquals(await numbers("?after=3", { "last-event-id": "" }), ["4", "end"]);
  assertEquals(await numbers("?after=4"), ["end"]);

  const back = await alice.request("GET", `/sessions/${id}/events/stream`, { headers: { "last-event-id": "4" } });
  assertEquals(back.status, 204, "an EventSource that is told so stops coming back");
  for (const value of ["x", "-1", "99999999999"]) {
    const bad = await alice.request("GET", `/sessions/${id}/events/stream`, { headers: { "last-event-id": value } });
    assertEquals([bad.status, bad.body.details[0].path], [400, "last-event-id"]);
  }
});

Deno.test("it is told before a byte is sent who may not read, and what is not there", async () => {
  const id = await newSession();
  await end(id);
  for (const by of [mallory.request, backend(mallory.id), backend("a caller")]) {
    const { status, body } = await by("GET", `/sessions/${id}/events/stream`);
    assertEquals([status, body.code], [404, "session_not_found"]);
  }
  const anonymous = await request("GET", `/sessions/${id}/events/stream`, { headers: { apikey: publishableKey } });
  assertEquals(anonymous.status, 401);
  assertEquals((await alice.request("GET", `/sessions/${uuid()}/events/stream`)).status, 404);
  assertEquals((await backend()("GET", `/sessions/${id}/events/stream`)).status, 200, "the control");
});

Deno.test("a number beyond the newest event is refused, and HEAD starts no stream", async () => {
  const id = await newSession();
  await log(id, "1");
  const beyond = await alice.request("GET", `/sessions/${id}/events/stream?after=2`);
  assertEquals([beyond.status, beyond.body.details[0].path], [400, "after"]);
  const head = await alice.request("HEAD", `/sessions/${id}/events/stream`);
  assertEquals([head.status, head.body], [200, null]);
});

Deno.test("a session that is deleted ends its streams, and they do not come back", async () => {
  const id = await newSession();
  await log(id, "1");
  const reader = await Reader.open(`/sessions/${id}/events/stream`);
  const received: Message[] = [];
  const sql = connect();
  for await (const message of reader.messages()) {
    received.push(message);
    await sql`delete from sessions where id = ${id}`;
  }
  await sql.end();
  assertEquals(received.map((message) => message.id), ["1"]);
  const back = await alice.request("GET", `/sessions/${id}/events/stream`, { headers: { "last-event-id": "1" } });
  assertEquals(back.status, 404);
});

Deno.test("a reader that is cut off at a hundred random points misses nothing and repeats nothing", async () => {
  const id = await newSession();
  const total = 1500;
  const writing = (async () => {
    for (let n = 0; n < total;) {
      const size = Math.min(1 + Math.floor(Math.random() * 40), total - n);
      await log(id, ...Array.from({ length: size }, (_, i) => `${n + i}: ${"🧵日本".repeat(Math.random() * 20)}`));
      n += size;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await end(id);
  })();

  let content = "";
  let last: string | undefined;
  let cuts = 0;
  for (let ended = false; !ended;) {
    const reader = await Reader.open(
      `/sessions/${id}/events/stream`,
      last === undefined ? {} : { "last-event-id": last },
    );
    assertEquals(reader.response.status, 200);
    const cut = cuts < 100;
    for await (const message of reader.messages(cut ? Math.random() * 4000 : Infinity)) {
      if (message.event === "end") ended = true;
      else content += `${JSON.stringify(JSON.parse(message.data))}\n`; // the database prints it with other spaces
      last = message.id ?? last;
    }
    if (cut) cuts++;
  }
  await writing;
  assertEquals(cuts, 100);
  let expected = "";
  for (let after: string | null = "0"; after !== null;) {
    const response: Response = await fetch(`${apiUrl}/functions/v1/sessions/${id}/events?limit=1000&after=${after}`, {
      headers: { apikey: secretKey },
    });
    const { data, next_cursor } = await response.json();
    for (const row of data) expected += `${JSON.stringify(row)}\n`;
    after = next_cursor;
  }
  assertEquals(content === expected, true, "byte for byte");
  assertEquals(content.split("\n").length - 1, total);
});
