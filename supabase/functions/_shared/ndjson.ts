// Exports: NDJSON, streamed page by page.
import type { Context } from "hono";
import { describeError } from "./app.ts";
import type { Json } from "./database.types.ts";
import type { AppEnv } from "./http.ts";

export const NDJSON = "application/x-ndjson";

/** A page of an export: lines of NDJSON, how many there are of each kind, and where the next page begins. */
export interface ExportPage {
  lines: string;
  counts: Record<string, number>;
  next: { [key: string]: Json } | null;
}

/** An {@link ExportPage} from the answer of an RPC, which has the counts beside the lines. */
export function toExportPage({ lines, next, ...counts }: Pick<ExportPage, "lines" | "next">): ExportPage {
  return { lines, next, counts: counts as ExportPage["counts"] };
}

/**
 * An export, as fast as it is read: a page is fetched when somebody wants it. The last line is of type `end`, with the
 * counts; without it the file was cut. An error on the way is a last line of type `error`.
 *
 * @param readPage Reads the page that begins at a place, the first one without.
 * @throws {ApiError} What the first page says: nothing is sent by then.
 */
export async function streamExport(
  c: Context<AppEnv>,
  readPage: (place: ExportPage["next"] | undefined, signal: AbortSignal) => Promise<ExportPage>,
): Promise<ReadableStream<Uint8Array>> {
  const encoder = new TextEncoder();
  const total: ExportPage["counts"] = {};
  const gone = new AbortController();
  let page: ExportPage | undefined = await readPage(undefined, gone.signal);
  let next: ExportPage["next"] = null;

  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        page ??= await readPage(next, gone.signal);
        if (gone.signal.aborted) return;
        const { lines, counts } = page;
        next = page.next;
        page = undefined;
        for (const [name, count] of Object.entries(counts)) total[name] = (total[name] ?? 0) + count;
        // The end goes with the last page: a pull that sends nothing would not be repeated.
        const end = next ? "" : `${JSON.stringify({ type: "end", ...total })}\n`;
        controller.enqueue(encoder.encode((lines && `${lines}\n`) + end));
        if (!next) controller.close();
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
