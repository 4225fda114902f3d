/** Faults of a service, put into a history that has none: a checker that lets one pass does not check. */
import type { Call, Operation } from "./history.ts";

export interface Fault {
  name: string;
  /** The rule that has to find it. */
  rule: string;
  /** @returns Whether the history had a place for it. */
  plant: (history: Operation[]) => boolean;
}

type Of<K extends Call["kind"]> = Extract<Operation, { kind: K }>;
type Read = Of<"read"> & { answer: { messages: { sequence: number; text: string }[] } };

const all = <K extends Call["kind"]>(history: Operation[], kind: K) =>
  history.filter((o) => o.kind === kind) as Of<K>[];
/** Readers of several messages, the last first: it has seen everything. */
const reads = (history: Operation[], atLeast = 2) =>
  all(history, "read").filter((o): o is Read => (o.answer?.messages?.length ?? -1) >= atLeast).reverse();
const lists = (history: Operation[]) => all(history, "list").filter(({ answer }) => answer).reverse();
const change = <T>(found: T | undefined, how: (found: T) => unknown): boolean => {
  if (found === undefined) return false;
  how(found);
  return true;
};
/** A later copy of an operation, as another client's. */
const again = <T extends Operation>(history: Operation[], operation: T): T => {
  const copy = structuredClone(operation);
  const end = Math.max(...history.map(({ endedAt }) => endedAt));
  history.push(Object.assign(copy, { startedAt: end + 1, endedAt: end + 2 }));
  return copy;
};
/** A reader who still sees what this has removed, and nothing else has. */
const afterwards = (history: Operation[], kind: "remove" | "erase" | "retain") => {
  for (const gone of all(history, kind).filter(({ answer }) => answer)) {
    const read = reads(history, 0).find((o) => {
      const made = all(history, "create").find(({ answer }) => answer?.id === o.id);
      const removed = {
        remove: all(history, "remove").some(({ id }) => id === o.id),
        erase: made?.listed && all(history, "erase").some(({ owner }) => owner === o.owner),
        retain: made?.expires && all(history, "retain").length > 0,
      };
      return made && made.endedAt < gone.startedAt && o.endedAt < gone.startedAt &&
        (gone.kind === "remove" ? o.id === gone.id : gone.kind === "erase" ? o.owner === gone.owner : true) &&
        Object.entries(removed).every(([other, yes]) => !yes === (other !== kind));
    });
    if (read) return again(history, read);
  }
};
/** A read of a conversation that was written to by two who did not wait for each other's answer; once, without repeats. */
const batch = (history: Operation[]) => {
  const appends = all(history, "append");
  for (const read of reads(history, 3)) {
    for (const append of appends.filter((o) => o.id === read.id && o.answer && o.texts.length > 1)) {
      const at = read.answer.messages.findIndex(({ text }) => text === append.texts[0]);
      if (at >= 0 && !appends.some((o) => o !== append && o.texts[0] === append.texts[0])) return { read, append, at };
    }
  }
};

export const FAULTS: Fault[] = [
  {
    name: "an acknowledged message is lost",
    rule: "lost",
    plant: (h) => change(reads(h)[0], ({ answer }) => answer.messages.pop()),
  },
  {
    name: "a message is stored twice",
    rule: "twice",
    plant: (h) =>
      change(
        reads(h)[0],
        ({ answer: { messages } }) => messages.push({ sequence: messages.length + 1, text: messages[0].text }),
      ),
  },
  {
    name: "a number is left out",
    rule: "gap",
    plant: (h) => change(reads(h)[0], ({ answer }) => answer.messages.at(-1)!.sequence++),
  },
  {
    name: "two readers see another order",
    rule: "two orders",
    plant: (h) =>
      change(reads(h)[0], (read) => {
        const { messages } = again(h, read).answer;
        [messages[0].text, messages[1].text] = [messages[1].text, messages[0].text];
      }),
  },
  {
    name: "half of a batch is stored",
    rule: "torn",
    plant: (h) =>
      change(batch(h), ({ read, append, at }) => {
        append.answer = undefined;
        append.status = 503;
        read.answer.messages.splice(at, 1);
      }),
  },
  {
    name: "something stands between two messages of a batch",
    rule: "torn",
    plant: (h) =>
      change(batch(h), ({ read, at }) => {
        const [first] = read.answer.messages.splice(at, 1);
        read.answer.messages.push(first);
      }),
  },
  {
    name: "a refused append is stored",
    rule: "refused but there",
    plant: (h) => change(batch(h), ({ append }) => Object.assign(append, { answer: undefined, status: 409 })),
  },
  {
    name: "an answer has other numbers than what is stored",
    rule: "numbered otherwise",
    plant: (h) => change(batch(h), ({ append }) => append.answer!.sequences.reverse()),
  },
  {
    name: "a later append comes before an earlier one",
    rule: "out of time",
    plant: (h) =>
      change(batch(h), ({ append }) => {
        const copy = again(h, append);
        copy.key = undefined;
      }),
  },
  {
    name: "a repeat with the same key is stored again",
    rule: "replayed otherwise",
    plant: (h) =>
      change(batch(h), ({ append }) => {
        append.key = "key";
        const copy = again(h, append);
        copy.answer!.sequences = copy.answer!.sequences.map((n) => n + 1000);
      }),
  },
  {
    name: "a deleted conversation is read",
    rule: "there after remove",
    plant: (h) => change(afterwards(h, "remove"), () => {}),
  },
  {
    name: "an erased conversation is read",
    rule: "there after erase",
    plant: (h) => change(afterwards(h, "erase"), () => {}),
  },
  {
    name: "an expired conversation is kept",
    rule: "there after retain",
    plant: (h) => change(afterwards(h, "retain"), () => {}),
  },
  {
    name: "a deleted conversation is listed",
    rule: "there after remove",
    plant: (h) =>
      change(
        all(h, "remove").find(({ answer, owner }) => answer && lists(h).some((o) => o.owner === owner)),
        (remove) => {
          const list = again(h, lists(h).find(({ owner }) => owner === remove.owner)!);
          list.answer!.conversations.push({ id: remove.id, title: `${remove.owner}/x` });
        },
      ),
  },
  {
    name: "a conversation vanishes",
    rule: "vanished",
    plant: (h) =>
      change(
        reads(h).find((o) =>
          !h.some((other) =>
            other.kind === "remove" && other.id === o.id || other.kind === "erase" && other.owner === o.owner
          ) &&
          all(h, "create").some(({ expires, answer }) => !expires && answer?.id === o.id)
        ),
        (read) => Object.assign(read, { answer: { messages: null } }),
      ),
  },
  {
    name: "a message of somebody else is read",
    rule: "foreign",
    plant: (h) => change(reads(h)[0], ({ answer }) => answer.messages[0].text = "mallory/1"),
  },
  {
    name: "a conversation of somebody else is listed",
    rule: "foreign",
    plant: (h) => change(lists(h)[0], ({ answer }) => answer!.conversations.push({ id: "x", title: "mallory/1" })),
  },
  {
    name: "a message that nobody wrote is read",
    rule: "nobody's",
    plant: (h) => change(reads(h)[0], ({ owner, answer }) => answer.messages[0].text = `${owner}/nobody`),
  },
  {
    name: "a conversation is not listed",
    rule: "not listed",
    plant: (h) =>
      change(
        lists(h).find(({ answer, owner }) =>
          answer!.conversations.length > 0 && !h.some((o) => o.kind === "erase" && o.owner === owner)
        ),
        ({ answer, startedAt }) => {
          const at = answer!.conversations.findIndex(({ id }) =>
            !h.some((o) => o.kind === "remove" && o.id === id) &&
            all(h, "create").some((o) => o.answer?.id === id && !o.expires && o.endedAt < startedAt)
          );
          answer!.conversations.splice(at, 1);
        },
      ),
  },
  {
    name: "an old title comes back",
    rule: "old title",
    plant: (h) =>
      change(
        all(h, "rename").find(({ id, answer }) =>
          answer && lists(h).some((o) => o.answer!.conversations.some((c) => c.id === id))
        ),
        (rename) => {
          const list = again(h, lists(h).find((o) => o.answer!.conversations.some(({ id }) => id === rename.id))!);
          const origin = all(h, "create").find(({ answer }) => answer?.id === rename.id);
          list.answer!.conversations.find(({ id }) => id === rename.id)!.title = origin?.title ??
            `${rename.owner}/never`;
        },
      ),
  },
  {
    name: "a fork begins otherwise than its parent",
    rule: "fork differs",
    plant: (h) =>
      change(
        all(h, "fork").find(({ answer, parent }) =>
          answer && [parent, answer.id].every((id) => reads(h, 1).some((o) => o.id === id))
        ),
        (fork) => {
          for (const read of reads(h, 1)) {
            if (read.id === fork.answer!.id) read.answer.messages[0].text = `${fork.owner}/other`;
          }
        },
      ),
  },
  {
    name: "a stream repeats an event",
    rule: "stream gap",
    plant: (h) =>
      change(
        all(h, "stream").find(({ answer }) => answer?.messages.length),
        ({ answer }) => answer!.messages.push(answer!.messages.at(-1)!),
      ),
  },
  {
    name: "a reader sees less than one before",
    rule: "shrank",
    plant: (h) => change(reads(h)[0], (read) => again(h, read).answer.messages.pop()),
  },
];
