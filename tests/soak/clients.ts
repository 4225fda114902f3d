/** Clients that do what users do, in random order, and write down what they asked and what they were told. */
import type { Call, Message, Operation } from "./history.ts";

export interface Owner {
  name: string;
  /** Headers that say who calls. */
  headers: Record<string, string>;
  /** Conversations and sessions that its clients know of. */
  things: { id: string; isSession: boolean; length: number }[];
  /** Whether it erases everything now and then. */
  erases: boolean;
}

export interface World {
  /** Below `/functions/v1`. It may be another one after a restart. */
  url: () => string;
  /** Runs retention as at a time when everything that expires has expired. */
  retain: () => Promise<void>;
  history: Operation[];
  random: () => number;
}

const HOUR = 3_600_000;
/** Later than a clock may jump, and sooner than anything else than what expires is due. */
const EXPIRES_AT = new Date(Date.now() + 2 * HOUR).toISOString();
export const RETAINED_AT = new Date(Date.now() + 3 * HOUR).toISOString();
const TIMEOUT_MS = 15_000;
const STREAM_MS = 1_500;
const PAGE = 100;

interface Answer {
  status: number;
  // deno-lint-ignore no-explicit-any -- whatever the service says
  body: any;
}

export class Client {
  #written = 0;

  constructor(readonly name: string, readonly owner: Owner, readonly world: World) {}

  async step(): Promise<void> {
    const { random } = this.world;
    const { things } = this.owner;
    const thing = things[Math.floor(random() * things.length)];
    const dice = random();
    if (!thing || dice < 0.08) return await this.#create();
    if (dice < 0.5) return await this.#append(thing);
    if (dice < 0.72) return await this.read(thing);
    if (dice < 0.77) return thing.isSession ? await this.#stream(thing) : await this.#fork(thing);
    if (dice < 0.82) return thing.isSession ? await this.#stream(thing) : await this.#rename(thing);
    if (dice < 0.9) return await this.list();
    if (dice < 0.94) return await this.#import();
    if (dice < 0.97) return await this.#remove(thing);
    if (dice < 0.98 && this.owner.erases) return await this.#erase();
    if (dice > 0.99) return await this.#retain();
  }

  /** Each of all there is once, whatever chance has left out. */
  async tour(): Promise<void> {
    const { things } = this.owner;
    const make = async (options: { isSession?: boolean; expires?: boolean }) => {
      await this.#create({ isSession: false, expires: false, ...options });
      const thing = things.at(-1)!;
      for (const count of [3, 2]) await this.#append(thing, count);
      await this.read(thing);
      return thing;
    };
    const [kept, removed] = [await make({}), await make({})];
    await this.#rename(kept);
    await this.#fork(kept);
    await this.read(things.at(-1)!);
    await this.list();
    await this.#stream(await make({ isSession: true }), 0);
    await this.#remove(removed);
    await make({ expires: true });
    await this.#retain();
    if (this.owner.erases) await this.#erase();
  }

  /** Of everything that the owner may have. */
  async lookAtAll(): Promise<void> {
    await this.list();
    for (const thing of this.owner.things) await this.read(thing);
  }

  #text = () => `${this.owner.name}/${this.name}/${++this.#written}`;
  #texts = (most: number) => Array.from({ length: 1 + Math.floor(this.world.random() * most) }, this.#text);

  async #request(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    try {
      const isText = typeof body === "string";
      const response = await fetch(this.world.url() + path, {
        method,
        headers: {
          ...this.owner.headers,
          ...(body !== undefined && { "content-type": isText ? "application/x-ndjson" : "application/json" }),
          ...headers,
        },
        // Deno would send text again by itself where a connection closes.
        body: body === undefined ? undefined : new Blob([isText ? body : JSON.stringify(body)]),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const text = await response.text();
      return { status: response.status, body: text ? JSON.parse(text) : {} };
    } catch {
      return { status: 0, body: {} }; // no answer, or half of one
    }
  }

  /** Has an operation written down with how it ended. `work` sets the answer if it was acknowledged. */
  async #record<K extends Call["kind"]>(
    call: Extract<Call, { kind: K }>,
    work: (call: Extract<Call, { kind: K }>) => Promise<number>,
  ): Promise<void> {
    const startedAt = performance.now();
    const { owner: { name: owner }, world: { history } } = this;
    const operation = { ...call, owner, startedAt, endedAt: Infinity, status: 0 };
    history.push(operation as Operation); // before it is sent: one that is never answered may happen
    operation.status = await work(operation);
    operation.endedAt = performance.now();
  }

  async #create(
    { isSession = this.world.random() < 0.25, expires = !isSession && this.world.random() < 0.2 }: {
      isSession?: boolean;
      expires?: boolean;
    } = {},
  ): Promise<void> {
    const { things } = this.owner;
    const [title, texts] = [this.#text(), this.#texts(3)];
    const call: Extract<Call, { kind: "create" }> = {
      kind: "create",
      title,
      texts: isSession ? [] : texts,
      listed: !isSession,
      expires,
    };
    await this.#record(call, async (call) => {
      const messages = texts.map((content) => ({ role: "user", content }));
      const { status, body } = isSession
        ? await this.#request("POST", "/sessions", {})
        : await this.#request("POST", "/conversations", {
          title,
          messages,
          ...(expires && { expires_at: EXPIRES_AT }),
        });
      if (status === 201) {
        call.answer = { id: body.id };
        things.push({ id: body.id, isSession, length: isSession ? 0 : texts.length });
      }
      return status;
    });
  }

  async #import(): Promise<void> {
    const [title, texts] = [this.#text(), this.#texts(4)];
    await this.#record({ kind: "import", title, texts }, async (call) => {
      const lines = [
        { type: "conversation", id: "1", title },
        ...texts.map((content, i) => ({
          type: "message",
          conversation_id: "1",
          sequence_order: i + 1,
          message_type: "message",
          role: "user",
          content,
        })),
        { type: "end", conversations: 1, messages: texts.length },
      ];
      const { status, body } = await this.#request(
        "POST",
        "/conversations/import",
        lines.map((line) => JSON.stringify(line)).join("\n") + "\n",
      );
      // It reports what became of each conversation: one that met a fault is no refusal.
      if (status === 200 && body.imported !== 1) return 0;
      if (status === 200) {
        const id = body.conversations[0].new_id;
        call.answer = { id };
        this.owner.things.push({ id, isSession: false, length: texts.length });
      }
      return status;
    });
  }

  async #append(thing: Owner["things"][number], count = 1 + Math.floor(this.world.random() * 3)): Promise<void> {
    const { id, isSession } = thing;
    const { random } = this.world;
    const key = random() < 0.5 ? this.#text() : undefined;
    const texts = Array.from({ length: count }, this.#text);
    const send = (call: Extract<Call, { kind: "append" }>) =>
      this.#record(call, async (call) => {
        const attempt = () =>
          this.#request(
            "POST",
            isSession ? `/sessions/${id}/events` : `/conversations/${id}/messages`,
            isSession
              ? { events: texts.map((text) => ({ event_type: "user_message", content: { text } })) }
              : { messages: texts.map((content) => ({ role: "user", content })) },
            key ? { "idempotency-key": key } : {},
          );
        let { status, body } = await attempt();
        // With a key a client repeats what it does not know the end of.
        for (let n = 0; key && n < 20 && (status === 0 || status >= 500); n++) {
          await new Promise((resolve) => setTimeout(resolve, 250));
          ({ status, body } = await attempt());
        }
        if (status === 201) {
          const sequences = (isSession ? body.events : body.messages).map(toMessage).map((m: Message) => m.sequence);
          call.answer = { sequences };
          thing.length = Math.max(thing.length, ...sequences);
        }
        return status;
      });
    const call: Extract<Call, { kind: "append" }> = { kind: "append", id, texts, key };
    await send(call);
    if (key && random() < 0.2) await send({ ...call }); // it repeats what was answered as well
  }

  async read(thing: Owner["things"][number]): Promise<void> {
    const { id, isSession } = thing;
    await this.#record({ kind: "read", id }, async (call) => {
      const messages: Message[] = [];
      for (let after = 0;;) {
        const path = isSession ? `/sessions/${id}/events` : `/conversations/${id}/messages`;
        const { status, body } = await this.#request("GET", `${path}?limit=${PAGE}&after=${after}`);
        if (status === 404 && after === 0) {
          call.answer = { messages: null };
          return 200;
        }
        if (status !== 200) return 0; // half of it is no answer
        messages.push(...body.data.map(toMessage));
        if (!body.has_more) break;
        after = messages.at(-1)!.sequence;
      }
      call.answer = { messages };
      return 200;
    });
  }

  async #stream(
    { id, length }: Owner["things"][number],
    after = Math.floor(this.world.random() * (length + 1)),
  ): Promise<void> {
    await this.#record({ kind: "stream", id, after }, async (call) => {
      const messages: Message[] = [];
      let status = 0;
      try {
        const response = await fetch(`${this.world.url()}/sessions/${id}/events/stream?after=${after}`, {
          headers: this.owner.headers,
          signal: AbortSignal.timeout(STREAM_MS),
        });
        status = response.status;
        if (status !== 200) await response.body?.cancel();
        let rest = "";
        for await (const text of response.body!.pipeThrough(new TextDecoderStream())) {
          const events = (rest + text).split("\n\n");
          rest = events.pop()!;
          for (const event of events) {
            const data = /^data: ?(.*)$/m.exec(event)?.[1];
            if (data && /^id:/m.test(event)) messages.push(toMessage(JSON.parse(data)));
          }
        }
      } catch { /* it is left, or cut: what came is what was seen */ }
      if (status === 200) call.answer = { messages };
      return status;
    });
  }

  async #fork({ id: parent, length }: Owner["things"][number]): Promise<void> {
    const at = 1 + Math.floor(this.world.random() * Math.max(length, 1));
    await this.#record({ kind: "fork", parent, at }, async (call) => {
      const { status, body } = await this.#request("POST", `/conversations/${parent}/fork`, { at });
      if (status === 201) {
        call.answer = { id: body.id };
        this.owner.things.push({ id: body.id, isSession: false, length: at });
      }
      return status;
    });
  }

  async #rename({ id }: Owner["things"][number]): Promise<void> {
    const title = this.#text();
    await this.#simple({ kind: "rename", id, title }, "PATCH", `/conversations/${id}`, { title });
  }

  async #remove({ id, isSession }: Owner["things"][number]): Promise<void> {
    if (!isSession) await this.#simple({ kind: "remove", id }, "DELETE", `/conversations/${id}`);
  }

  /** Done is what the receipt says: what somebody was writing to has its turn later. */
  async #erase(): Promise<void> {
    await this.#record({ kind: "erase" }, async (call) => {
      const { status, body } = await this.#request("DELETE", "/conversations?confirm=all");
      if (status !== 202) return status;
      for (let n = 0; n < 60; n++) {
        const receipt = await this.#request("GET", `/conversations/erasures/${body.id}`);
        if (receipt.body.finished_at) {
          call.answer = {};
          return status;
        }
        await new Promise((resolve) => setTimeout(resolve, 250));
      }
      return 0;
    });
  }

  async #simple(call: Call, method: string, path: string, body?: unknown): Promise<void> {
    await this.#record(call, async (call) => {
      const { status } = await this.#request(method, path, body);
      if (status >= 200 && status < 300) call.answer = {};
      return status;
    });
  }

  async #retain(): Promise<void> {
    await this.#record({ kind: "retain" }, (call) =>
      this.world.retain().then(() => {
        call.answer = {};
        return 200;
      }, () => 0));
  }

  async list(): Promise<void> {
    await this.#record({ kind: "list" }, async (call) => {
      const conversations: { id: string; title: string }[] = [];
      for (let cursor: string | null = "";;) {
        const { status, body }: Answer = await this.#request(
          "GET",
          `/conversations?limit=1000${cursor && `&cursor=${encodeURIComponent(cursor)}`}`,
        );
        if (status !== 200) return 0;
        conversations.push(...body.data.map(({ id, title }: { id: string; title: string }) => ({ id, title })));
        cursor = body.next_cursor;
        if (cursor === null) break;
      }
      call.answer = { conversations };
      return 200;
    });
  }
}

// deno-lint-ignore no-explicit-any -- a message or an event
function toMessage(row: any): Message {
  return "sequence_order" in row
    ? { sequence: row.sequence_order, text: row.content }
    : { sequence: row.sequence, text: row.content.text };
}
