// A connection that closes before the answer: what a server may have done is not sent to it again.
import { assertEquals, assertRejects } from "@std/assert";
import { createClient } from "@supabase/supabase-js";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { forward } from "../../local/forward.ts";
import { callRaw, clientOptions } from "../../supabase/functions/_shared/rpc.ts";

/** Answers the first request of each connection, and reads the next one to its end before it hangs up. */
async function startHangingUp() {
  const bodies: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    let answered = 0;
    let text = "";
    socket.on("error", () => {});
    socket.on("data", (data) => {
      text += data;
      const end = text.indexOf("\r\n\r\n");
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0);
      if (end < 0 || text.length < end + 4 + length) return;
      bodies.push(text.slice(end + 4));
      text = "";
      if (answered++ > 0) socket.destroy();
      else socket.write("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}");
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bodies,
    async [Symbol.asyncDispose]() {
      sockets.forEach((socket) => socket.destroy());
      server.close();
      await once(server, "close");
    },
  };
}

/** How often the server got the second request. */
async function timesSent(send: (url: string, body: object) => Promise<unknown>, fails: boolean): Promise<number> {
  await using server = await startHangingUp();
  await send(server.url, { n: 1 });
  if (fails) await assertRejects(() => send(server.url, { n: 2 }));
  else await send(server.url, { n: 2 });
  return server.bodies.filter((body) => body === '{"n":2}').length;
}

const read = async (response: Promise<Response>) => await (await response).text();

Deno.test("a call of the database is sent once", async () => {
  const client = (url: string) => createClient(url, "key", { ...clientOptions, auth: { persistSession: false } });
  assertEquals(await timesSent((url, body) => callRaw(client(url).rpc("append", body)), true), 1);
  assertEquals(await timesSent(async (url, body) => await client(url).rpc("append", body).throwOnError(), true), 1);
});

Deno.test("the local gateway passes a request on once", async () => {
  const send = (url: string, body: object) => {
    const request = new Request("http://local/", { method: "POST", body: JSON.stringify(body) });
    return read(forward(url, request, request.headers));
  };
  assertEquals(await timesSent(send, true), 1);
});

Deno.test("the control: text is sent twice by Deno itself", async () => {
  const send = (url: string, body: object) => read(fetch(url, { method: "POST", body: JSON.stringify(body) }));
  assertEquals(await timesSent(send, false), 2);
});
