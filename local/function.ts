/**
 * Runs inside a function's own process: serves the `fetch` that its index.ts exports, on a free port.
 * Arguments: the URL of index.ts, and the word that announces the port on standard output.
 */
const [entrypoint, announcement] = Deno.args;

// Standard input is a lifeline: it ends when the stack does, however that came about.
Deno.stdin.readable.pipeTo(new WritableStream()).finally(() => Deno.exit(0));
// Ctrl-C reaches the whole process group. What becomes of a function is the stack's decision.
Deno.addSignalListener("SIGINT", () => {});

const { default: handler } = await import(entrypoint);
const server = Deno.serve({
  hostname: "127.0.0.1",
  port: 0,
  onListen: ({ port }) => console.log(announcement, port),
}, (request) => handler.fetch(request));

Deno.addSignalListener("SIGTERM", () => server.shutdown().finally(() => Deno.exit(0)));
