/** Passes a request on to another server of this machine. */

/** @param url Where to, path and query included. */
export async function forward(url: string, { method, body, signal }: Request, headers: Headers): Promise<Response> {
  const passed = new Headers(headers);
  for (const name of ["connection", "expect", "host", "transfer-encoding"]) passed.delete(name);
  passed.set("accept-encoding", "identity"); // otherwise fetch would ask for gzip and undo it
  return await fetch(url, { method, headers: passed, body, signal, redirect: "manual" });
}
