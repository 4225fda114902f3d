/** The worst that the limits allow, ten times. */

const LARGE = 3_900_000;

export interface Attack {
  name: string;
  /** It has to be refused; all others have to be done. */
  refused?: true;
  /** Answers whether it was done. */
  send: (request: (method: string, path: string, body?: string) => Promise<boolean>) => Promise<boolean>;
}

/** The attacker's: what is read, and what is written to, so that no attack changes what another one costs. */
export interface Things {
  conversation: string;
  written: string;
  writtenSession: string;
}

const text = (length: number) => "x".repeat(length);

export function attacks({ conversation, written, writtenSession }: Things): Attack[] {
  const find = JSON.stringify({
    filters: { $or: Array.from({ length: 16 }, (_, i) => ({ [`a.b${i}`]: { $in: [1, 2, 3, "x"] } })) },
    count: true,
  });
  return [
    {
      name: "append 3.9 MB",
      /** Answers whether it was done. */
      send: (request) =>
        request(
          "POST",
          `/conversations/${written}/messages`,
          `{"messages":[{"role":"user","content":"${text(LARGE)}"}]}`,
        ),
    },
    {
      name: "append 1,000 messages",
      /** Answers whether it was done. */
      send: (request) =>
        request(
          "POST",
          `/conversations/${written}/messages`,
          JSON.stringify({ messages: Array(1000).fill({ role: "user", content: "x" }) }),
        ),
    },
    {
      name: "a body that is refused: 4 MB of brackets",
      refused: true,
      /** Answers whether it was done. */
      send: (request) => request("POST", "/conversations", "[".repeat(LARGE)),
    },
    {
      name: "load 1,000 messages",
      /** Answers whether it was done. */
      send: (request) => request("GET", `/conversations/${conversation}/messages?limit=1000`),
    },
    {
      name: "a context of a million tokens",
      /** Answers whether it was done. */
      send: (request) => request("GET", `/conversations/${conversation}/context?max_tokens=1000000`),
    },
    { name: "search", send: (request) => request("GET", "/conversations/search?q=message%20number") },
    { name: "documents: 16 alternatives, counted", send: (request) => request("POST", "/documents/attack/find", find) },
    {
      name: "audit search for what nobody said",
      /** Answers whether it was done. */
      send: (request) =>
        request("GET", `/sessions/audit?from=${new Date(Date.now() - 86_400_000).toISOString()}&q=nobody`),
    },
    {
      name: "append 1,000 events",
      /** Answers whether it was done. */
      send: (request) =>
        request(
          "POST",
          `/sessions/${writtenSession}/events`,
          JSON.stringify({ events: Array(1000).fill({ event_type: "user_message", content: "x" }) }),
        ),
    },
    { name: "export", send: (request) => request("GET", "/conversations/export") },
  ];
}
