// The names that SQL takes, as `npm run add` compares them.
import { assertEquals } from "@std/assert";
import { follow, type Names } from "../../local/names.ts";

function names(...migrations: string[]): string[] {
  const taken: Names = new Map();
  for (const sql of migrations) follow(taken, sql, "a migration");
  return [...taken.values()].map(({ kind, name }) => `${kind} ${name}`).sort();
}

Deno.test("names are folded and qualified as Postgres does it", () => {
  assertEquals(
    names(`
      CREATE TABLE IF NOT EXISTS "Documents" (id int);
      create table
        Public . Sessions ();
      create unlogged table app.cache (); create or replace view "my app"."a ""view""" as select 1;
      create materialized view totals as select 1; create function search(text) returns text return '';
      create schema if not exists private; create role gateway nologin; create type mood as enum ('a');
      create unique index concurrently if not exists idx_cache on app.cache (a); create index on app.cache (b);`),
    [
      "function public.search",
      "index app.idx_cache",
      "materialized view public.totals",
      "role gateway",
      "schema private",
      "table app.cache",
      "table public.Documents",
      "table public.sessions",
      "type public.mood",
      'view my app.a "view"',
    ],
  );
});

Deno.test("what is said in a comment, a string or the body of a function is not done; what do does is", () => {
  assertEquals(
    names(`
      -- create table a ();
      /* create table b (); */
      comment on table "create table c" is 'create table d (); it''s';
      select E'it\\'s; create table e ()', $$ create table f () $$;
      create function g() returns void language plpgsql as $x$ begin execute $$ x $$; create table h (); end $x$;
      do $$ begin create type i as enum ('create table j'); exception when duplicate_object then null; end $$;
      do language plpgsql $y$ begin create schema k; end $y$;
      create temporary table l ();`),
    ["function public.g", "schema k", "type public.i"],
  );
});

Deno.test("what is dropped, renamed or moved is free again; the index of a renamed table is not", () => {
  const table = `create table documents (id bigserial primary key, slug text, constraint "Slugs" unique (slug));`;
  const taken = ["index public.Slugs", "index public.documents_pkey", "table public.documents"];
  assertEquals(names(table), taken);
  assertEquals(names(table, "drop table if exists documents, other cascade"), []);
  assertEquals(names(table, "alter table documents rename column slug to name"), taken);
  assertEquals(names(table, "alter table public.documents rename to guides"), [
    "index public.Slugs",
    "index public.documents_pkey",
    "table public.guides",
  ]);
  const renamed = ["alter table documents rename to guides;", "alter index documents_pkey rename to guides_pkey;"];
  assertEquals(names(table, ...renamed, `alter table guides rename constraint "Slugs" to slugs`), [
    "index public.guides_pkey",
    "index public.slugs",
    "table public.guides",
  ]);
  assertEquals(names(table, "alter table documents set schema app"), [
    "index app.Slugs",
    "index app.documents_pkey",
    "table app.documents",
  ]);
  assertEquals(names("create schema a; create table a.b (); create table b ();", "drop schema a cascade"), [
    "table public.b",
  ]);
  const search = "create function search(a numeric(10, 2), b text) returns text return b;";
  assertEquals(names(search, "alter function search(numeric(10, 2), text) rename to find"), ["function public.find"]);
  assertEquals(names(search, "drop function search(numeric, text)"), []);
});
