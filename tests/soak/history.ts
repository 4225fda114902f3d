/**
 * What clients of the service did and saw, and what may never be in it: acknowledged is there, once, in one order that all
 * readers see; nothing is seen after its deletion, nothing of others, and nothing that nobody wrote.
 */

export interface Message {
  sequence: number;
  text: string;
}

/**
 * What was asked and, where it was acknowledged, what was answered. An id is a conversation's, or a session's with events
 * for messages. Texts and titles begin with the owner and occur once.
 */
export type Call =
  | { kind: "create"; title: string; texts: string[]; listed: boolean; expires: boolean; answer?: { id: string } }
  | { kind: "import"; title: string; texts: string[]; answer?: { id: string } }
  /** Under one of its parent's titles. */
  | { kind: "fork"; parent: string; at: number; answer?: { id: string } }
  | { kind: "append"; id: string; texts: string[]; key?: string; answer?: { sequences: number[] } }
  /** All messages; null for a 404. */
  | { kind: "read"; id: string; answer?: { messages: Message[] | null } }
  /** What came until the stream was left. */
  | { kind: "stream"; id: string; after: number; answer?: { messages: Message[] } }
  | { kind: "rename"; id: string; title: string; answer?: object }
  | { kind: "list"; answer?: { conversations: { id: string; title: string }[] } }
  | { kind: "remove"; id: string; answer?: object }
  | { kind: "erase"; answer?: object }
  /** A run of retention at a time when everything that expires has expired. */
  | { kind: "retain"; answer?: object };

export type Operation = Call & {
  owner: string;
  /** Milliseconds, of one clock for all clients. */
  startedAt: number;
  endedAt: number;
  /** The last attempt's; 0 where there was no answer. */
  status: number;
};

type Of<K extends Call["kind"]> = Extract<Operation, { kind: K }>;
type Made = Of<"create"> | Of<"import"> | Of<"fork">;

export interface Violation {
  rule: string;
  what: string;
}

/** What is refused has not happened; what was not answered may have, or may yet. */
const isRefused = ({ status }: Operation) => status >= 400 && status < 500;
const isDone = ({ answer }: Operation) => answer !== undefined;

export function check(history: Operation[]): Violation[] {
  const violations: Violation[] = [];
  const violated = (rule: string, what: string) => void violations.push({ rule, what });
  const all = <K extends Call["kind"]>(kind: K) => history.filter((o) => o.kind === kind) as Of<K>[];

  const made = new Map<string, Made>();
  for (const kind of ["create", "import", "fork"] as const) {
    for (const operation of all(kind)) if (operation.answer) made.set(operation.answer.id, operation);
  }
  const appends = Map.groupBy(all("append"), ({ id }) => id);
  const reads = Map.groupBy(all("read"), ({ id }) => id);
  const streams = Map.groupBy(all("stream"), ({ id }) => id);
  const removing = history.filter((o) => !isRefused(o) && ["remove", "erase", "retain"].includes(o.kind));
  const removed = new Map<string, Operation[]>();
  const removals = (id: string): Operation[] => {
    const known = removed.get(id);
    if (known) return known;
    const { owner, kind, ...thing } = made.get(id) ?? {};
    const expires = kind === "create" && (thing as Of<"create">).expires;
    const isSession = kind === "create" && !(thing as Of<"create">).listed; // conversations are what is erased
    const found = removing.filter((o) =>
      o.kind === "remove" && o.id === id || o.kind === "erase" && o.owner === owner && !isSession ||
      o.kind === "retain" && expires
    );
    removed.set(id, found);
    return found;
  };
  /** Whether a removal that had it before its eyes was done before this began. */
  const isGone = (id: string, { startedAt }: Operation) =>
    removals(id).find((o) =>
      isDone(o) && o.endedAt < startedAt && (o.kind === "remove" || o.startedAt > (made.get(id)?.endedAt ?? Infinity))
    );
  /** Whether one was begun before this ended. */
  const mayBeGone = (id: string, { endedAt }: Operation) => removals(id).some((o) => o.startedAt < endedAt);

  const writers = new Map<string, { operation: Operation; id?: string }>();
  for (const o of history) {
    if (o.kind === "create" || o.kind === "import") {
      o.texts.forEach((t) => writers.set(t, { operation: o, id: o.answer?.id }));
    }
    if (o.kind === "append") o.texts.forEach((t) => writers.set(t, { operation: o, id: o.id }));
  }

  /** One order for all: of each conversation, which text has which number. */
  const orders = new Map<string, Map<number, string>>();
  const order = (id: string) => orders.get(id) ?? orders.set(id, new Map()).get(id)!;
  const seen = (id: string, { sequence, text }: Message) => {
    const before = order(id).get(sequence);
    if (before !== undefined && before !== text) violated("two orders", `${id} ${sequence}: ${before}, ${text}`);
    order(id).set(sequence, text);
  };

  for (const [id, operations] of [...reads, ...streams]) {
    for (const operation of operations) {
      const { owner, answer } = operation;
      if (!answer) continue;
      if (answer.messages === null) {
        if (made.has(id) && !mayBeGone(id, operation)) violated("vanished", `${id} for ${owner}`);
        continue;
      }
      const messages: Message[] = answer.messages;
      const gone = isGone(id, operation);
      if (gone && operation.kind === "read") violated(`there after ${gone.kind}`, id);
      const first = operation.kind === "stream" ? operation.after + 1 : 1;
      const isConsecutive = messages.every(({ sequence }, i) => sequence === first + i);
      if (!isConsecutive) {
        violated(
          operation.kind === "stream" ? "stream gap" : "gap",
          `${id}: ${messages.map((m) => m.sequence)}`,
        );
      }
      const texts = new Set(messages.map(({ text }) => text));
      for (const text of new Set(messages.map(({ text }) => text).filter((text, i, all) => all.indexOf(text) < i))) {
        const { operation } = writers.get(text) ?? {};
        const numbers = messages.filter((message) => message.text === text).map(({ sequence }) => sequence);
        violated("twice", `${id} ${text} as ${numbers}: ${JSON.stringify(operation)}`);
      }
      for (const message of messages) {
        seen(id, message);
        const writer = writers.get(message.text);
        if (!message.text.startsWith(`${owner}/`)) violated("foreign", `${message.text} for ${owner}`);
        else if (!writer) violated("nobody's", message.text);
        else if (isRefused(writer.operation)) violated("refused but there", message.text);
      }
      if (operation.kind === "stream") continue;

      const origin = made.get(id);
      if (origin?.kind === "fork" && messages.length < origin.at) violated("lost", `${id}: shorter than its fork`);
      const written = [...appends.get(id) ?? [], ...origin && "texts" in origin ? [origin] : []];
      for (const write of written) {
        const there = write.texts.filter((text) => texts.has(text));
        if (there.length < write.texts.length && isDone(write) && write.endedAt < operation.startedAt) {
          violated("lost", `${id}: ${write.texts.filter((text) => !texts.has(text))}`);
        } else if (there.length > 0) {
          const from = messages.findIndex(({ text }) => text === there[0]);
          const run = messages.slice(from, from + write.texts.length).map(({ text }) => text);
          if (run.join() !== write.texts.join()) violated("torn", `${id}: ${run} of ${write.texts}`);
        }
      }
    }
    // No later reader sees less.
    let longest = 0;
    const byEnd = operations.toSorted((a, b) => a.endedAt - b.endedAt);
    for (const read of operations.toSorted((a, b) => a.startedAt - b.startedAt)) {
      if (read.kind !== "read") continue;
      for (; byEnd[0]?.endedAt < read.startedAt; byEnd.shift()) {
        longest = Math.max(longest, byEnd[0].kind === "read" ? byEnd[0].answer?.messages?.length ?? 0 : 0);
      }
      if (read.answer?.messages && read.answer.messages.length < longest) violated("shrank", `${id}: from ${longest}`);
    }
  }

  for (const [id, operations] of appends) {
    const done = operations.filter((o) => o.answer).toSorted((a, b) => a.startedAt - b.startedAt);
    const byKey = new Map<string, string>();
    for (const { texts, answer, key } of done) {
      const { sequences } = answer!;
      texts.forEach((text, i) => {
        const stored = order(id).get(sequences[i]);
        if (stored !== undefined && stored !== text) {
          violated("numbered otherwise", `${id} ${sequences[i]}: ${stored}, ${text}`);
        }
      });
      if (key && (byKey.get(key) ?? `${sequences}`) !== `${sequences}`) violated("replayed otherwise", `${id} ${key}`);
      if (key) byKey.set(key, `${sequences}`);
    }
    // What was acknowledged before another began comes before it.
    let newest = 0;
    const byEnd = done.toSorted((a, b) => a.endedAt - b.endedAt);
    const repeated = new Set<string>();
    for (const { startedAt, answer, key } of done) {
      for (; byEnd[0]?.endedAt < startedAt; byEnd.shift()) newest = Math.max(newest, ...byEnd[0].answer!.sequences);
      if (answer!.sequences[0] <= newest && !(key && repeated.has(key))) {
        violated("out of time", `${id} ${answer!.sequences}`);
      }
      if (key) repeated.add(key);
    }
  }

  for (const [id, origin] of made) {
    if (origin.kind !== "fork") continue;
    for (let n = 1; n <= origin.at; n++) {
      const [ours, theirs] = [order(id).get(n), order(origin.parent).get(n)];
      if (ours !== undefined && theirs !== undefined && ours !== theirs) {
        violated("fork differs", `${id} ${n}: ${ours}, ${theirs}`);
      }
    }
  }

  const renames = Map.groupBy(all("rename"), ({ id }) => id);
  /** Those that it may have begun with. */
  const firstTitles = (origin: Made): string[] => {
    if (origin.kind !== "fork") return [origin.title];
    const parent = made.get(origin.parent);
    return [...parent ? firstTitles(parent) : [], ...(renames.get(origin.parent) ?? []).map(({ title }) => title)];
  };
  const unanswered = [...all("create"), ...all("import"), ...all("fork")].filter((o) => !isDone(o) && !isRefused(o));
  for (const list of all("list")) {
    if (!list.answer) continue;
    const listed = new Map(list.answer.conversations.map(({ id, title }) => [id, title]));
    if (listed.size < list.answer.conversations.length) violated("listed twice", list.owner);
    for (const [id, title] of listed) {
      if (!title.startsWith(`${list.owner}/`)) violated("foreign", `${title} for ${list.owner}`);
      const origin = made.get(id);
      if (!origin) {
        if (!unanswered.some((o) => firstTitles(o).includes(title))) violated("nobody's", `${id} ${title}`);
        continue;
      }
      const gone = isGone(id, list);
      if (gone) violated(`there after ${gone.kind}`, `${id} in a list`);
      const titles: Operation[] = [origin, ...renames.get(id) ?? []];
      const given = (renames.get(id) ?? []).find((o) => o.title === title) ??
        (firstTitles(origin).includes(title) ? origin : undefined);
      const isCurrent = given && !isRefused(given) && given.startedAt < list.endedAt &&
        !titles.some((o) => isDone(o) && o.startedAt > given.endedAt && isDone(given) && o.endedAt < list.startedAt);
      if (!isCurrent) violated("old title", `${id} ${title}`);
    }
    for (const [id, origin] of made) {
      if (origin.owner !== list.owner || origin.kind === "create" && !origin.listed) continue;
      if (origin.endedAt < list.startedAt && !listed.has(id) && !mayBeGone(id, list)) violated("not listed", id);
    }
  }
  return violations;
}
