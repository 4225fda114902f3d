import { assertEquals } from "@std/assert";
import { join } from "node:path";
import { root } from "./project.ts";

/** A page of the documentation: `README.md`, `docs/sessions.md`. */
export const readDocs = (name: string): Promise<string> => Deno.readTextFile(join(root, name));

/** The one block of code with this in it. */
export function block(page: string, language: string, part: string): string {
  const blocks = [...page.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map(([, code]) => code);
  const found = blocks.filter((code) => code.includes(part));
  assertEquals(found.length, 1, `${found.length} blocks have: ${part}`);
  return found[0];
}
