// Every function of the project as a value, found by looking: a new one is under test the day it appears.
import type { Hono } from "hono";
import { fileURLToPath } from "node:url";
import type { Operation } from "../../supabase/functions/_shared/openapi.ts";
import { functionNames } from "../../local/functions.ts";

const directory = new URL("../../supabase/functions/", import.meta.url);

export interface Function {
  name: string;
  app: Hono;
  operations: Record<string, Operation>;
  openapi: Record<string, unknown>;
  /** What the app answers to, without middleware and the 405 of static paths: `GET /conversations/:id`. */
  routes: { method: string; path: string; name: string }[];
}

export const functions: Function[] = await Promise.all(
  (await functionNames(fileURLToPath(directory))).toSorted().map(async (name) => {
    const { app } = await import(new URL(`${name}/app.ts`, directory).href) as { app: Hono };
    const routes = app.routes
      .filter(({ method, path }) => method !== "ALL" && !path.endsWith("/*"))
      .map(({ method, path }) => ({ method, path, name: `${method} ${path}` }))
      .filter((route, i, all) => all.findIndex((other) => other.name === route.name) === i);
    return { name, app, routes, ...await import(new URL(`${name}/openapi.ts`, directory).href) };
  }),
);
