/** A worker that attacks: a thread of its own, so that what it sends is not what the other waits for. */
import { attacks, type Things } from "./attacks.ts";

/** How many calls were made, and how many of them the API did. */
export interface Sent {
  sent: number;
  done: number;
}

export interface Orders extends Things {
  name: string;
  connections: number;
  api: string;
  headers: Record<string, string>;
}

// Here `self` is a worker's: it has postMessage with one argument.
const worker = self as unknown as {
  postMessage(sent: Sent): void;
  onmessage: (event: MessageEvent<Orders | null>) => void;
};
let running = false;

worker.onmessage = async ({ data }) => {
  running = data !== null;
  if (!data) return;
  const { name, connections, api, headers, ...things } = data;
  const { send } = attacks(things).find((attack) => attack.name === name)!;
  const request = async (method: string, path: string, body?: string): Promise<boolean> => {
    const json = body === undefined ? undefined : { "content-type": "application/json" };
    const response = await fetch(api + path, { method, body, headers: { ...headers, ...json } });
    await response.arrayBuffer();
    return response.ok;
  };
  const count: Sent = { sent: 0, done: 0 };
  await Promise.all(Array.from({ length: connections }, async () => {
    for (; running; count.sent++) if (await send(request)) count.done++;
  }));
  worker.postMessage(count);
};
