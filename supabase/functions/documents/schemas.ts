import { z } from "zod";
import { isObject, type JsonObject } from "../_shared/json.ts";
import { answeredTimestamp, jsonObject, limit, MAX_INTEGER, text, textOrNone } from "../_shared/schemas.ts";

export const collectionParam = z.strictObject({
  collection: z.string().regex(
    /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/,
    'Expected 1 to 128 letters, digits, "_", "-" and ".", the first one a letter, a digit or "_".',
  ),
});

// ---- documents ------------------------------------------------------------------------------------------------------

const id = text(256);

/** The fields that mean something to the database. Every other one is the application's. */
const documentFields = {
  id: id.optional(),
  version: textOrNone(256).optional(),
  creation_utc: z.string().regex(
    /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d(:?\d\d)?)?)?$/,
    "Expected an ISO 8601 date and time.",
  ).optional(),
};

/** Checked, not rebuilt: see {@link jsonObject}. */
const fieldsOf = z.custom<JsonObject>(isObject, "Expected an object.").superRefine((value, context) => {
  for (const { path, message } of z.object(documentFields).safeParse(value).error?.issues ?? []) {
    context.addIssue({ code: "custom", path, message });
  }
});

export const documentInput = fieldsOf.meta({
  id: "DocumentInput",
  type: "object",
  properties: {
    id: { type: "string", description: "A uuid if it is not given." },
    version: { type: "string", description: "The version of the schema that the document follows." },
    creation_utc: { type: "string", description: "ISO 8601, UTC if it does not say; the time if it is not given." },
  },
  additionalProperties: true,
  description: "A flat object: the application's own fields beside these.",
});

/** What an update changes: some fields of a document, the others stay. */
export const params = fieldsOf.meta({
  type: "object",
  description: "Merged into the top level of the document, id, version and creation_utc included.",
});

export const document = jsonObject.meta({
  id: "Document",
  type: "object",
  properties: { id: { type: "string" }, version: { type: "string" }, creation_utc: { type: "string" } },
  required: ["id", "creation_utc"],
  additionalProperties: true,
  description: "The object that was inserted, with id and creation_utc if it came without.",
});
export type Document = JsonObject & { id: string; creation_utc: string };

// ---- queries --------------------------------------------------------------------------------------------------------

const filters = jsonObject.default({}).meta({
  type: "object",
  description:
    "$eq $ne $gt $gte $lt $lte $in $nin $exists $contains $like on fields, $and and $or around them; a bare value " +
    "is $eq, a dot a path. {} is all documents.",
  examples: [{ age: { $gte: 18 }, $or: [{ name: "Ada" }, { tags: { $contains: "vip" } }] }],
});

const direction = z.enum(["asc", "desc"]);

/**
 * A place in a list: the base64 of `creation_utc|id`, which is how Parlant's API writes it. One that cannot be decoded is
 * no error: the list begins at its beginning.
 */
const cursor = z.string().nullish().transform(decodeCursor).meta({ type: "string" });

function decodeCursor(value: string | null | undefined): { creation_utc: string; id: string } | undefined {
  try {
    const bytes = Uint8Array.from(atob(value ?? ""), (character) => character.charCodeAt(0));
    const [, creation_utc, id] = new TextDecoder("utf-8", { fatal: true }).decode(bytes).match(
      /^([^|\0]+)\|([^\0]+)$/s,
    )!;
    return { creation_utc, id };
  } catch {
    return undefined;
  }
}

export function encodeCursor({ creation_utc, id }: { creation_utc: string; id: string }): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(`${creation_utc}|${id}`)));
}

export const findBody = z.strictObject({
  filters,
  limit: z.int().min(1).max(MAX_INTEGER).nullish().describe("All documents, up to about 8 MiB, if it is not given."),
  cursor,
  sort: direction.default("asc").describe("By (creation_utc, id)."),
  count: z.boolean().default(true).describe("false leaves total_count null, and saves counting."),
});

export const found = z.strictObject({
  items: z.array(document),
  total_count: z.int().nullable().describe("Of all that match, exactly."),
  has_more: z.boolean(),
  next_cursor: z.string().nullable(),
}).meta({ id: "FindResult" });
export type Found = { items: Document[]; total_count: number | null; has_more: boolean; next_cursor: string | null };

export const findOneBody = z.strictObject({
  filters,
  sort: z.union([
    direction,
    z.array(z.strictObject({ field: textOrNone(256), direction: direction.optional() })).min(1).max(4),
  ]).default("asc").describe("By (creation_utc, id), or by fields: neither string nor number, strings, numbers."),
});
export const foundOne = z.strictObject({ document: document.nullable() });

export const filterBody = z.strictObject({ filters });
export const counted = z.strictObject({ count: z.int() });

// ---- changes --------------------------------------------------------------------------------------------------------

export const insertOneBody = z.strictObject({ document: documentInput });
export const insertedOne = z.strictObject({
  document: document.nullable().describe("null in a repeated answer whose document is deleted since."),
});

export const insertManyBody = z.strictObject({ documents: z.array(documentInput).min(1).max(1000) });
export const inserted = z.strictObject({ documents: z.array(document) });

/** Filters that have to be there: what changes or deletes says what. */
const requiredFilters = jsonObject;

export const updateBody = z.strictObject({
  filters: requiredFilters,
  params,
  upsert: z.boolean().default(false).describe("Without a match, insert params as they are."),
  if_version: z.string().max(256).optional().describe("409 unless it is the document's version."),
});
export const updated = z.strictObject({
  matched_count: z.int(),
  modified_count: z.int(),
  updated_document: document.nullable(),
}).meta({ id: "UpdateResult" });
export type Updated = { matched_count: number; modified_count: number; updated_document: Document | null };

export const deleteBody = z.strictObject({ filters: requiredFilters });
export const deletedOne = z.strictObject({ deleted_count: z.int(), deleted_document: document.nullable() })
  .meta({ id: "DeleteResult" });
export type DeletedOne = { deleted_count: number; deleted_document: Document | null };
export const deletedMany = z.strictObject({ deleted_count: z.int() });
export type DeletedMany = z.infer<typeof deletedMany>;

// ---- collections ----------------------------------------------------------------------------------------------------

export const collectionsQuery = z.strictObject({ limit, cursor: text(128).optional() });
export const collection = z.strictObject({
  collection: z.string(),
  documents: z.int(),
  failures: z.int(),
  version: z.string().nullable(),
}).meta({ id: "Collection" });
export type Collection = z.infer<typeof collection>;

/** Filters sent here by mistake must not mean "all". */
export const dropBody = z.strictObject({});

export const versionBody = z.strictObject({
  version: text(256),
  expected_version: z.string().max(256).nullable().describe(
    "What it is now; null if none was set. 409 if it is another.",
  ),
});
export const version = z.strictObject({ version: z.string().nullable() });
export type Version = z.infer<typeof version>;

// ---- quarantine -----------------------------------------------------------------------------------------------------

export const failBody = z.strictObject({ id, reason: z.string().min(1).max(2000) });
export const restoreBody = z.strictObject({ id });
export const failuresQuery = z.strictObject({ limit, cursor: text(256).optional() });
export const failure = z.strictObject({ document, reason: z.string(), failed_at: answeredTimestamp })
  .meta({ id: "DocumentFailure" });
export type Failure = { document: Document; reason: string; failed_at: string };

// ---- indexes --------------------------------------------------------------------------------------------------------

export const indexBody = z.strictObject({ field: text(256) });
export const indexQuery = z.strictObject({ field: text(256) });
export const index = z.strictObject({
  collection: z.string(),
  field: z.string(),
  name: z.string(),
  definition: z.string().describe("The statement that makes it without locking out writers, for large tables."),
}).meta({ id: "DocumentIndex" });
export type Index = z.infer<typeof index>;
