/** What commands write into pages that people write. */

/** docs/reliability.md. */
export const RELIABILITY = new URL("../../docs/reliability.md", import.meta.url);

/** Replaces what stands between `<!-- from COMMAND -->` and `<!-- -->`. */
export async function writeBetween(page: URL, command: string, text: string): Promise<void> {
  const before = `<!-- from ${command} -->\n`;
  const after = "\n<!-- -->";
  const written = await Deno.readTextFile(page);
  const from = written.indexOf(before) + before.length;
  const to = written.indexOf(after, from);
  if (from < before.length || to < 0) throw new Error(`${page.pathname} has no place for: ${command}`);
  await Deno.writeTextFile(page, written.slice(0, from) + text.trim() + written.slice(to));
}
