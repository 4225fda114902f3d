// Exports: NDJSON, streamed page by page, in pieces.
import type { Context } from "hono";
import { z } from "zod";
import { describeError } from "./app.ts";
import type { Json } from "./database.types.ts";
import type { AppEnv } from "./caller.ts";
import { concat, innerJson, type RawJson } from "./json.ts";
import { inTurn } from "./turns.ts";

export const NDJSON = "application/x-ndjson";

/** A page of an export: lines of NDJSON, how many there are of each kind, and where the next page begins. */
export interface ExportPage {
  lines: Uint8Array<ArrayBuffer>;
  counts: Record<string, number>;
  next: { [key: string]: Json } | null;
}

/** What an RPC answers: an {@link ExportPage} with the counts beside the lines. */
type ExportAnswer = { lines: string; next: ExportPage["next"] };

export function toExportPage(answer: RawJson<ExportAnswer>): ExportPage {
  const { lines, next, ...counts } = answer.members();
  return {
    lines: innerJson(lines),
    next: next.parse(),
    counts: Object.fromEntries(Object.entries<RawJson<number>>(counts).map(([name, count]) => [name, count.parse()])),
  };
}

/** How much one request exports, about: 12 ms of CPU for each MiB, and an isolate has a second for all that it ever does. */
const MAX_BYTES = 8 * 1024 * 1024;
/** A page has its price, too, however little is in it. */
const MAX_PAGES = 16;
/** For a slow reader: well before the worker's time is up, and with what is left of a user's token. */
const MAX_MS = 60_000;

/** Where an export goes on, and what went before. The page checks the place, which is the user's own to choose. */
const position = z.strictObject({
  place: z.record(z.string(), z.custom<Json>()),
  counts: z.record(z.string().max(64), z.int().min(0)),
});
type Position = { place: NonNullable<ExportPage["next"]>; counts: ExportPage["counts"] };

const cursor = z.base64url("Not a cursor of this export.").max(16_384).transform((value, context): Position => {
  try {
    const bytes = Uint8Array.from(atob(value.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    return position.parse(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes))) as Position;
  } catch {
    context.addIssue({ code: "custom", message: "Not a cursor of this export." });
    return z.NEVER;
  }
});

function encodeCursor(position: Position): string {
  const bytes = new TextEncoder().encode(JSON.stringify(position));
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export const exportQuery = z.strictObject({
  cursor: cursor.optional().describe("That of the line of type next which ended the piece before."),
});

/**
 * A piece of an export, as fast as it is read: a page is fetched when somebody wants it. The last line is of type `end`, with
 * the counts of all pieces together, or of type `next`, with the cursor where the next piece begins; without one of them the
 * piece was cut. An error on the way is a last line of type `error`. The pieces one after the other are the whole export.
 *
 * @param from Where the piece begins; the first one without.
 * @param readPage Reads the page that begins at a place, the first one without.
 * @throws {ApiError} What the first page says: nothing is sent by then.
 */
export async function streamExport(
  c: Context<AppEnv>,
  from: z.output<typeof exportQuery>["cursor"],
  readPage: (place: ExportPage["next"] | undefined, signal: AbortSignal) => Promise<ExportPage>,
): Promise<ReadableStream<Uint8Array>> {
  // A page at a time: a reader takes as long as they like.
  const readInTurn: typeof readPage = (place, signal) => inTurn(c.var.caller, () => readPage(place, signal));
  const encoder = new TextEncoder();
  const counts: ExportPage["counts"] = { ...from?.counts };
  const gone = new AbortController();
  const closesAt = Date.now() + MAX_MS;
  let bytes = 0;
  let pages = 0;
  let page: ExportPage | undefined = await readInTurn(from?.place, gone.signal);
  let next: ExportPage["next"] = null;

  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        page ??= await readInTurn(next, gone.signal);
        if (gone.signal.aborted) return;
        const { lines } = page;
        for (const [name, count] of Object.entries(page.counts)) counts[name] = (counts[name] ?? 0) + count;
        next = page.next;
        page = undefined;
        bytes += lines.length;
        const isFull = bytes >= MAX_BYTES || ++pages >= MAX_PAGES || Date.now() >= closesAt;
        let last = "";
        if (!next) last = `${JSON.stringify({ type: "end", ...counts })}\n`;
        else if (isFull) last = `${JSON.stringify({ type: "next", cursor: encodeCursor({ place: next, counts }) })}\n`;
        // In one: a pull that sends nothing would not be repeated.
        controller.enqueue(concat(lines, encoder.encode((lines.length > 0 ? "\n" : "") + last)));
        if (last) controller.close();
      } catch (error) {
        // A reader who went away is told nothing, and nothing has gone wrong.
        if (gone.signal.aborted) return;
        const line = { type: "error", error: describeError(c, error) };
        controller.enqueue(encoder.encode(`${JSON.stringify(line)}\n`));
        controller.close();
      }
    },
    cancel: () => gone.abort(),
  }, { highWaterMark: 0 });
}
