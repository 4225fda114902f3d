/** Passes a request on to another server of this machine. */

/**
 * Sends the body when it is there as a whole, as the platform's gateway does. An answer that came before its end would stop
 * its flow, and with it a browser, which reads only once it has sent.
 *
 * @param url Where to, path and query included.
 */
export async function forward(url: string, request: Request, headers: Headers): Promise<Response> {
  const passed = new Headers(headers);
  for (const name of ["connection", "expect", "host", "transfer-encoding"]) passed.delete(name);
  passed.set("accept-encoding", "identity"); // otherwise fetch would ask for gzip and undo it
  const { method, signal } = request;
  const body = request.body && new Blob([await request.bytes()]); // Deno sends bytes again where a connection closes
  return await fetch(url, { method, headers: passed, body, signal, redirect: "manual" });
}
