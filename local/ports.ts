export function probe(port: number): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port });
  return listener.addr.port;
}

/**
 * A port for what starts in a moment. Below those that the system gives to outgoing connections: one of these might take it
 * in between.
 */
export function freePort(): number {
  for (;;) {
    try {
      return probe(15_000 + Math.floor(Math.random() * 15_000));
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}
