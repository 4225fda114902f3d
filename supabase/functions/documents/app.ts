import { createApp } from "../_shared/app.ts";
import { authenticate, backendOnly } from "../_shared/auth.ts";
import { idempotencyKey, json, noQuery, param, query, replayHeader, sendJson } from "../_shared/http.ts";
import { joinJson } from "../_shared/json.ts";
import * as repo from "./repo.ts";
import {
  collectionParam,
  collectionsQuery,
  deleteBody,
  type Document,
  dropBody,
  failBody,
  failuresQuery,
  filterBody,
  findBody,
  findOneBody,
  indexBody,
  indexQuery,
  insertManyBody,
  insertOneBody,
  restoreBody,
  updateBody,
  versionBody,
} from "./schemas.ts";

/** In values of the body: each condition of a filter is tried with every document. */
const LARGE_FILTER = 32;

const inCollection = param(collectionParam);

export const app = createApp("documents", () => import("./openapi.ts"))
  .use(authenticate)
  .get("/", query(collectionsQuery), async (c) => c.json(await repo.list(c.var.caller, c.req.valid("query"))))
  .post("/:collection/find", noQuery, inCollection, json(findBody, LARGE_FILTER), async (c) => {
    const { collection } = c.req.valid("param");
    return sendJson(c, await repo.find(c.var.caller, collection, c.req.valid("json")));
  })
  .post("/:collection/find_one", noQuery, inCollection, json(findOneBody, LARGE_FILTER), async (c) => {
    const { collection } = c.req.valid("param");
    return sendJson(c, await repo.findOne(c.var.caller, collection, c.req.valid("json")));
  })
  .post("/:collection/count", noQuery, inCollection, json(filterBody, LARGE_FILTER), async (c) => {
    const { collection } = c.req.valid("param");
    return sendJson(c, await repo.count(c.var.caller, collection, c.req.valid("json")));
  })
  .post("/:collection/insert_one", noQuery, inCollection, json(insertOneBody), async (c) => {
    const { collection } = c.req.valid("param");
    const documents = [c.req.valid("json").document];
    const { documents: rows, replayed } = await repo.insert(c.var.caller, collection, documents, idempotencyKey(c));
    const document = rows.elements().at(0) ?? null;
    return sendJson(c, joinJson<{ document: Document | null }>({ document }), 201, replayHeader(replayed));
  })
  .post("/:collection/insert_many", noQuery, inCollection, json(insertManyBody), async (c) => {
    const { collection } = c.req.valid("param");
    const { documents } = c.req.valid("json");
    const { replayed, ...inserted } = await repo.insert(c.var.caller, collection, documents, idempotencyKey(c));
    return sendJson(c, joinJson<{ documents: Document[] }>(inserted), 201, replayHeader(replayed));
  })
  .post("/:collection/update_one", noQuery, inCollection, json(updateBody), async (c) => {
    const { collection } = c.req.valid("param");
    const { answer, replayed } = await repo.updateOne(c.var.caller, collection, c.req.valid("json"), idempotencyKey(c));
    return sendJson(c, answer, 200, replayHeader(replayed));
  })
  .post("/:collection/delete_one", noQuery, inCollection, json(deleteBody, LARGE_FILTER), async (c) => {
    const { collection } = c.req.valid("param");
    const { answer, replayed } = await repo.deleteOne(c.var.caller, collection, c.req.valid("json"), idempotencyKey(c));
    return sendJson(c, answer, 200, replayHeader(replayed));
  })
  .post("/:collection/delete_many", noQuery, inCollection, json(deleteBody, LARGE_FILTER), async (c) => {
    const { collection } = c.req.valid("param");
    const { answer, replayed } = await repo.deleteMany(
      c.var.caller,
      collection,
      c.req.valid("json"),
      idempotencyKey(c),
    );
    return sendJson(c, answer, 200, replayHeader(replayed));
  })
  .post("/:collection/drop", noQuery, inCollection, json(dropBody), async (c) => {
    const { collection } = c.req.valid("param");
    const { answer, replayed } = await repo.drop(c.var.caller, collection, idempotencyKey(c));
    return sendJson(c, answer, 200, replayHeader(replayed));
  })
  .get("/:collection/version", noQuery, inCollection, async (c) => {
    const { collection } = c.req.valid("param");
    return c.json(await repo.getVersion(c.var.caller, collection));
  })
  .put("/:collection/version", noQuery, inCollection, json(versionBody), async (c) => {
    const { collection } = c.req.valid("param");
    const { answer, replayed } = await repo.setVersion(
      c.var.caller,
      collection,
      c.req.valid("json"),
      idempotencyKey(c),
    );
    return sendJson(c, answer, 200, replayHeader(replayed));
  })
  .get("/:collection/failures", inCollection, query(failuresQuery), async (c) => {
    const { collection } = c.req.valid("param");
    return sendJson(c, await repo.listFailures(c.var.caller, collection, c.req.valid("query")));
  })
  .post("/:collection/failures", noQuery, inCollection, json(failBody), async (c) => {
    const { collection } = c.req.valid("param");
    const { answer, replayed } = await repo.fail(c.var.caller, collection, c.req.valid("json"), idempotencyKey(c));
    return sendJson(c, answer, 201, replayHeader(replayed));
  })
  .post("/:collection/failures/restore", noQuery, inCollection, json(restoreBody), async (c) => {
    const { collection } = c.req.valid("param");
    const { answer, replayed } = await repo.restore(c.var.caller, collection, c.req.valid("json"), idempotencyKey(c));
    return sendJson(c, answer, 200, replayHeader(replayed));
  })
  // An index serves a collection of everybody's and takes the table's locks: the backend decides.
  .use("/:collection/indexes", backendOnly)
  .get("/:collection/indexes", noQuery, inCollection, async (c) => {
    const { collection } = c.req.valid("param");
    return c.json(await repo.listIndexes(c.var.caller, collection));
  })
  .post("/:collection/indexes", noQuery, inCollection, json(indexBody), async (c) => {
    const { collection } = c.req.valid("param");
    const { answer, replayed } = await repo.createIndex(
      c.var.caller,
      collection,
      c.req.valid("json"),
      idempotencyKey(c),
    );
    const { index, created } = answer.parse();
    return c.json(index, created ? 201 : 200, replayHeader(replayed));
  })
  .delete("/:collection/indexes", inCollection, query(indexQuery), async (c) => {
    const { collection } = c.req.valid("param");
    const { replayed } = await repo.dropIndex(c.var.caller, collection, c.req.valid("query"), idempotencyKey(c));
    return c.body(null, 204, replayHeader(replayed));
  });

export type App = typeof app;
