import { z } from "zod";
import type { Json } from "./database.types.ts";
import { isObject, type JsonObject, unstorable } from "./json.ts";

// What the schemas of every function are made of.

/** A page of a list, as every list route answers it. */
export const page = <T extends z.ZodType>(row: T) =>
  z.strictObject({
    data: z.array(row),
    has_more: z.boolean(),
    next_cursor: z.string().nullable().describe(
      "What to send next: as cursor, or where a list counts in sequence numbers as after (ascending) or before " +
        "(descending). Null at the end.",
    ),
  });
export type Page<T> = { data: T[]; has_more: boolean; next_cursor: string | null };

// ---- text that names or finds something -----------------------------------------------------------------------------
// Ids, names, titles, parameters: stored as they are or not at all. What is said may hold whatever a string holds.

export const requireStorable = (value: string, context: z.RefinementCtx) => {
  const message = unstorable(value);
  if (message) context.addIssue({ code: "custom", message });
};
export const text = (max: number) => z.string().min(1).max(max).superRefine(requireStorable);
export const textOrNone = (max: number) => z.string().max(max).superRefine(requireStorable);

// ---- JSON that is stored as it came ---------------------------------------------------------------------------------
// Checked, not rebuilt: a parser that copies would lose keys such as "__proto__".

export const jsonObject = z.custom<JsonObject>(isObject, "Expected an object.").meta({ type: "object" });
export const jsonArray = z.custom<Json[]>(Array.isArray, "Expected an array.").meta({ type: "array" });

/** An item of the Responses API, of whatever type. Its ids become columns. */
export const providerItem = jsonObject.superRefine((item, context) => {
  for (const name of ["id", "type", "call_id"]) {
    const message = typeof item[name] === "string" && unstorable(item[name]);
    if (message) context.addIssue({ code: "custom", path: [name], message });
  }
});

const MAX_METADATA_BYTES = 64 * 1024;
export const metadata = jsonObject.refine(
  (value) => new TextEncoder().encode(JSON.stringify(value)).length <= MAX_METADATA_BYTES,
  "Larger than 64 KiB.",
).superRefine((value, context) => {
  for (const name of Object.keys(value)) {
    const message = unstorable(name);
    if (message) context.addIssue({ code: "custom", path: [name], message });
  }
});

// ---- parameters -----------------------------------------------------------------------------------------------------

export const MAX_INTEGER = 2_147_483_647;

/** An integer in a query string: digits only, so that "", "1e3" and "0x10" are errors and not numbers. */
export const integer = (min: number, max: number) =>
  z.string().regex(/^\d{1,10}$/, "Expected an integer.").transform(Number).pipe(z.int().min(min).max(max));
export const sequence = integer(0, MAX_INTEGER);
export const limit = integer(1, 1000).default(50);
export const flag = z.enum(["true", "false"]).transform((value) => value === "true").pipe(z.boolean()).default(false);
export const timestamp = z.iso.datetime({ offset: true });
export const answeredTimestamp = z.string().meta({ format: "date-time" });

/** An `x-user-id` that need not be a user of Auth: what a header can carry, and `sessions.user_id` hold. */
export const userId = z.string().regex(/^[\x20-\x7e]{1,256}$/, "Expected 1 to 256 printable ASCII characters.");

// ---- erasure --------------------------------------------------------------------------------------------------------

/** What erases everything says so: a DELETE that has lost the end of its path does not. */
export const confirmQuery = z.strictObject({ confirm: z.literal("all") });

export const erasureParam = z.strictObject({ id: z.guid() });

/** The receipt of an erasure. It does not say whose. */
export const erasure = z.strictObject({
  id: z.guid(),
  scope: z.enum(["conversations", "user"]),
  removed: z.record(z.string(), z.int()).describe("How many rows of which table, so far."),
  error: z.string().nullable().describe("The SQLSTATE with which the last step failed. It is tried again."),
  created_at: answeredTimestamp,
  finished_at: answeredTimestamp.nullable().describe("Null until nothing is left."),
}).meta({ id: "Erasure" });
export type Erasure = z.infer<typeof erasure>;

// ---- cursors --------------------------------------------------------------------------------------------------------

/**
 * A place in a list: the sort key of the last row of the page before it. Opaque to clients.
 *
 * @param key The parts of the sort key in their order, none of which contains "|".
 * @example const cursor = cursorOf({ updated_at: timestamp, id: z.guid() });
 */
export function cursorOf<T extends Record<string, z.ZodType<string | number>>>(key: T) {
  type Key = { [K in keyof T]: z.output<T[K]> };
  const names = Object.keys(key);
  return {
    encode: (row: Key): string =>
      btoa(names.map((name) => row[name]).join("|"))
        .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", ""),
    schema: z.base64url("Not a cursor of this list.").transform((value, context): Key => {
      const parts = atob(value.replaceAll("-", "+").replaceAll("_", "/")).split("|");
      const parsed = names.map((name, i) => key[name].safeParse(parts[i]));
      if (parts.length === names.length && parsed.every((part) => part.success)) {
        return Object.fromEntries(parsed.map((part, i) => [names[i], part.data])) as Key;
      }
      context.addIssue({ code: "custom", message: "Not a cursor of this list." });
      return z.NEVER;
    }),
  };
}
