import { assertEquals } from "@std/assert";
import { TimedCache } from "../../supabase/functions/_shared/cache.ts";

const later = () => Date.now() + 60_000;

Deno.test("a value is kept until its time, and not any longer", () => {
  const cache = new TimedCache<string>(10);
  cache.set("fresh", "a", later());
  cache.set("over", "b", Date.now());
  assertEquals([cache.get("fresh"), cache.get("over"), cache.get("other")], ["a", undefined, undefined]);
});

Deno.test("however many come, no more than the maximum stay, and those are the youngest", () => {
  const cache = new TimedCache<number>(3);
  for (let i = 0; i < 1000; i++) {
    cache.set(`${i}`, i, later());
    assertEquals(cache.size, Math.min(i + 1, 3));
  }
  assertEquals(["996", "997", "998", "999"].map((key) => cache.get(key)), [undefined, 997, 998, 999]);
});

Deno.test("what is set again is young again, with its new value and time", () => {
  const cache = new TimedCache<number>(2);
  cache.set("a", 1, Date.now());
  cache.set("b", 2, later());
  cache.set("a", 3, later());
  cache.set("c", 4, later());
  assertEquals(["a", "b", "c"].map((key) => cache.get(key)), [3, undefined, 4]);
});

Deno.test("what has run out makes room by itself when something comes", () => {
  const cache = new TimedCache<number>(10);
  for (let i = 0; i < 5; i++) cache.set(`${i}`, i, Date.now());
  cache.set("fresh", 5, later());
  assertEquals([cache.size, cache.get("fresh")], [1, 5]);
});
