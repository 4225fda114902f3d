import type { z } from "zod";
import type { Caller } from "../_shared/caller.ts";
import type { Json } from "../_shared/database.types.ts";
import { joinJson, type JsonObject, type PassedJson, type RawJson } from "../_shared/json.ts";
import { callOnce, callRaw, callThrough, type Replayable, unwrap, withCursor } from "../_shared/rpc.ts";
import type { Page } from "../_shared/schemas.ts";
import {
  type Collection,
  type collectionsQuery,
  type deleteBody,
  type DeletedMany,
  type DeletedOne,
  type Document,
  encodeCursor,
  type failBody,
  type Failure,
  type failuresQuery,
  type filterBody,
  type findBody,
  type findOneBody,
  type Found,
  type Index,
  type indexBody,
  type indexQuery,
  type restoreBody,
  type updateBody,
  type Updated,
  type Version,
  type versionBody,
} from "./schemas.ts";

// One function for each request, one database call in each. Nothing else in this directory talks to the database.

// ---- documents ------------------------------------------------------------------------------------------------------

export async function find(
  { supabase, userId }: Caller,
  collection: string,
  { filters, limit, cursor, sort, count }: z.output<typeof findBody>,
): Promise<RawJson<Found>> {
  const found = await callRaw<Found>(
    supabase.rpc("find_documents", {
      p_collection: collection,
      p_filters: filters as Json,
      p_limit: limit ?? undefined,
      p_cursor: cursor,
      p_sort: sort,
      p_count: count,
      p_user_id: userId,
    }),
  );
  const { items, has_more, ...rest } = found.members();
  const last = has_more.parse() ? items.elements().at(-1)!.members() : undefined;
  const next_cursor = last
    ? encodeCursor({ creation_utc: last.creation_utc.parse() as string, id: last.id.parse() as string })
    : null;
  return joinJson<Found>({ ...rest, items, has_more, next_cursor });
}

export async function findOne(
  { supabase, userId }: Caller,
  collection: string,
  { filters, sort }: z.output<typeof findOneBody>,
): Promise<PassedJson<{ document: Document | null }>> {
  return await callThrough(
    supabase.rpc("find_document", {
      p_collection: collection,
      p_filters: filters as Json,
      p_sort: { order: sort },
      p_user_id: userId,
    }),
  );
}

export async function count(
  { supabase, userId }: Caller,
  collection: string,
  { filters }: z.output<typeof filterBody>,
): Promise<PassedJson<{ count: number }>> {
  return await callThrough(
    supabase.rpc("count_documents", {
      p_collection: collection,
      p_filters: filters as Json,
      p_user_id: userId,
    }),
  );
}

export async function insert(
  { supabase, userId }: Caller,
  collection: string,
  documents: JsonObject[],
  idempotencyKey?: string,
): Promise<Replayable<{ documents: RawJson<Document[]> }>> {
  const inserted = await callRaw<Replayable<{ documents: Document[] }>>(
    supabase.rpc("insert_documents", {
      p_collection: collection,
      p_documents: documents as Json,
      p_idempotency_key: idempotencyKey,
      p_user_id: userId,
    }),
  );
  const { documents: rows, replayed } = inserted.members();
  return { documents: rows, ...(replayed && { replayed: true }) };
}

export async function updateOne(
  caller: Caller,
  collection: string,
  { filters, params, upsert, if_version }: z.output<typeof updateBody>,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<Updated> }>> {
  return await callOnce(caller, idempotencyKey, "update_document", {
    p_collection: collection,
    p_filters: filters as Json,
    p_params: params as Json,
    p_upsert: upsert,
    p_if_version: if_version,
    p_user_id: caller.userId,
  });
}

export async function deleteOne(
  caller: Caller,
  collection: string,
  { filters }: z.output<typeof deleteBody>,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<DeletedOne> }>> {
  return await callOnce(caller, idempotencyKey, "delete_document", {
    p_collection: collection,
    p_filters: filters as Json,
    p_user_id: caller.userId,
  });
}

export async function deleteMany(
  caller: Caller,
  collection: string,
  { filters }: z.output<typeof deleteBody>,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<DeletedMany> }>> {
  return await callOnce(caller, idempotencyKey, "delete_documents", {
    p_collection: collection,
    p_filters: filters as Json,
    p_user_id: caller.userId,
  });
}

// ---- collections ----------------------------------------------------------------------------------------------------

export async function list(
  { supabase, userId }: Caller,
  { limit, cursor }: z.output<typeof collectionsQuery>,
): Promise<Page<Collection>> {
  const page = unwrap<Page<Collection>>(
    await supabase.rpc("list_collections", { p_limit: limit, p_after: cursor, p_user_id: userId }),
  );
  return { ...page, next_cursor: page.has_more ? page.data.at(-1)!.collection : null };
}

export async function drop(
  caller: Caller,
  collection: string,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<DeletedMany> }>> {
  return await callOnce(caller, idempotencyKey, "drop_collection", {
    p_collection: collection,
    p_user_id: caller.userId,
  });
}

export async function getVersion({ supabase, userId }: Caller, collection: string): Promise<Version> {
  return unwrap(await supabase.rpc("get_collection_version", { p_collection: collection, p_user_id: userId }));
}

export async function setVersion(
  caller: Caller,
  collection: string,
  { version, expected_version }: z.output<typeof versionBody>,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<Version> }>> {
  return await callOnce(caller, idempotencyKey, "set_collection_version", {
    p_collection: collection,
    p_version: version,
    p_expected_version: expected_version ?? undefined,
    p_user_id: caller.userId,
  });
}

// ---- quarantine -----------------------------------------------------------------------------------------------------

export async function fail(
  caller: Caller,
  collection: string,
  { id, reason }: z.output<typeof failBody>,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<Failure> }>> {
  return await callOnce(caller, idempotencyKey, "fail_document", {
    p_collection: collection,
    p_id: id,
    p_reason: reason,
    p_user_id: caller.userId,
  });
}

export async function restore(
  caller: Caller,
  collection: string,
  { id }: z.output<typeof restoreBody>,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<{ document: Document }> }>> {
  return await callOnce(caller, idempotencyKey, "restore_document", {
    p_collection: collection,
    p_id: id,
    p_user_id: caller.userId,
  });
}

export async function listFailures(
  { supabase, userId }: Caller,
  collection: string,
  { limit, cursor }: z.output<typeof failuresQuery>,
): Promise<RawJson<Page<Failure>>> {
  const page = await callRaw<Page<Failure>>(
    supabase.rpc("list_failures", {
      p_collection: collection,
      p_limit: limit,
      p_after: cursor,
      p_user_id: userId,
    }),
  );
  return withCursor(page, (last) => last.members().document.members().id.parse() as string);
}

// ---- indexes --------------------------------------------------------------------------------------------------------

export async function listIndexes({ supabase }: Caller, collection: string): Promise<Page<Index>> {
  const indexes = unwrap<Page<Index>>(await supabase.rpc("list_document_indexes", { p_collection: collection }));
  return { ...indexes, next_cursor: null };
}

export async function createIndex(
  caller: Caller,
  collection: string,
  { field }: z.output<typeof indexBody>,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<{ index: Index; created: boolean }> }>> {
  return await callOnce(caller, idempotencyKey, "create_document_index", { p_collection: collection, p_field: field });
}

export async function dropIndex(
  caller: Caller,
  collection: string,
  { field }: z.output<typeof indexQuery>,
  idempotencyKey?: string,
): Promise<Replayable<{ answer: RawJson<null> }>> {
  return await callOnce(caller, idempotencyKey, "drop_document_index", { p_collection: collection, p_field: field });
}
