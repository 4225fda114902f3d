/** The names that SQL takes, read without running it. */

/** `documents` of `create table documents`, with where it is said. */
export interface Name {
  /** Such as `table`. */
  kind: string;
  /** With its schema, as Postgres folds it: `public.documents`. */
  name: string;
  source: string;
  /** Of an index. */
  table?: string;
}

/** By what Postgres keeps apart: a table cannot have the name of a type or an index, but that of a function. */
export type Names = Map<string, Name>;

const KINDS =
  "(?:materialized |foreign )?(?:table|view)|index|sequence|type|domain|function|procedure|aggregate|schema|role";
const IDENT = String.raw`(?:"(?:[^"]|"")+"|[\p{L}_][\p{L}\p{N}_$]*)`;
const NAME = String.raw`${IDENT}(?: ?\. ?${IDENT})?`;
const ARGUMENTS = String.raw`(?: ?\((?:[^()]|\([^()]*\))*\))?`;

const pattern = (source: string, flags = "iu") => new RegExp(source, flags);
const CREATE = pattern(
  `^create (?:or replace )?(?:global |local )?(?:unlogged |recursive |unique )*(${KINDS}) (?:concurrently )?(?:if not exists )?` +
    `(?!on |authorization )(${NAME})(?: on (?:only )?(${NAME}))?`,
);
const KEY = pattern(`(?:constraint (${IDENT}) )?(?:primary key|(?<=constraint ${IDENT} )(?:unique|exclude))`, "giu");
const DROP = pattern(`^drop (${KINDS}) (?:concurrently )?(?:if exists )?([^;]+)`);
const ALTER = pattern(
  `^alter (${KINDS}) (?:if exists )?(?:only )?(${NAME})${ARGUMENTS} ` +
    `(?:rename to (${IDENT})|set schema (${IDENT})|rename constraint (${IDENT}) to (${IDENT}))`,
);

/** Follows a migration: what it creates is taken, what it drops or renames is free again. */
export function follow(names: Names, sql: string, source: string): Names {
  const text = withoutLiterals(sql).replace(/\s+/g, " ");
  // A quoted name may have these words in it: that of a policy is a sentence.
  for (const { 0: word, index } of text.matchAll(/"(?:[^"]|"")*"|\b(?:create|drop|alter) /gi)) {
    if (word.startsWith('"')) continue;
    const statement = text.slice(index);
    create(names, statement, source);
    drop(names, statement);
    alter(names, statement, source);
  }
  return names;
}

/** Adds a name, such as one that was read from a catalogue. */
export function take(names: Names, name: Name): void {
  names.set(key(name.kind, name.name), name);
}

function create(names: Names, statement: string, source: string): void {
  const [, kind, name, indexed] = statement.match(CREATE) ?? [];
  if (!kind) return;
  if (isKind("index", kind)) {
    if (!indexed) return;
    // It stands in the schema of its table.
    const table = qualified("table", indexed);
    return take(names, { kind: "index", name: `${table.schema}.${fold(name)}`, source, table: table.name });
  }
  const created = qualified(kind, name);
  take(names, { kind: kind.toLowerCase(), name: created.name, source });
  if (!isKind("table", kind)) return;
  for (const [, constraint] of statement.match(/^[^;]*/)![0].matchAll(KEY)) {
    const index = constraint ? fold(constraint) : `${created.plain}_pkey`;
    take(names, { kind: "index", name: `${created.schema}.${index}`, source, table: created.name });
  }
}

function drop(names: Names, statement: string): void {
  const [, kind, list] = statement.match(DROP) ?? [];
  for (const item of list?.replace(/\([^)]*\)/g, "").split(",") ?? []) {
    const [name] = item.trim().match(pattern(`^${NAME}`)) ?? [];
    if (!name) continue;
    const dropped = qualified(kind, name).name;
    names.delete(key(kind, dropped));
    for (const [key, inside] of names) {
      if (isKind("schema", kind) ? inside.name.startsWith(`${dropped}.`) : inside.table === dropped) names.delete(key);
    }
  }
}

function alter(names: Names, statement: string, source: string): void {
  const [, kind, name, newName, newSchema, constraint, newConstraint] = statement.match(ALTER) ?? [];
  if (!kind) return;
  const old = qualified(kind, name);
  const move = (kind: string, from: string, to: string) => {
    const taken = names.get(key(kind, from));
    if (!taken || !names.delete(key(kind, from))) return;
    take(names, { ...taken, name: to, source });
  };
  if (constraint) return move("index", `${old.schema}.${fold(constraint)}`, `${old.schema}.${fold(newConstraint)}`);
  const schema = newSchema ? fold(newSchema) : old.schema;
  const to = newName ? qualified(kind, newName, schema) : qualified(kind, old.plain, schema);
  move(kind, old.name, to.name);
  // Its indexes keep their names.
  for (const index of [...names.values()]) {
    if (index.table !== old.name) continue;
    index.table = to.name;
    move("index", index.name, `${schema}.${index.name.slice(old.schema.length + 1)}`);
  }
}

/** Comments and strings blanked; of dollar quotes only those of `do` are code that runs. */
function withoutLiterals(sql: string): string {
  const literal =
    /--[^\n]*|\/\*[\s\S]*?\*\/|"(?:[^"]|"")*"|\be'(?:[^'\\]|''|\\[\s\S])*'|'(?:[^']|'')*'|(\bdo\s+(?:language\s+\w+\s+)?)?(?<![\w$])(\$(?:[a-z_]\w*)?\$)([\s\S]*?)\2/gi;
  return sql.replace(literal, (text, isDo, _tag, body) => {
    if (isDo) return `${isDo} ${withoutLiterals(body)}`;
    return text.startsWith('"') ? text : text.startsWith("-") || text.startsWith("/") ? " " : "''";
  });
}

function key(kind: string, name: string): string {
  if (isKind("function|procedure|aggregate", kind)) return `function ${name}`;
  return isKind("schema|role", kind) ? `${kind.toLowerCase()} ${name}` : `relation ${name}`;
}

function isKind(kinds: string, kind: string): boolean {
  return new RegExp(`^(?:${kinds})$`, "i").test(kind);
}

/** The parts of a name. Without a schema it is in public, where migrations run. */
function qualified(kind: string, source: string, schema = "public"): { name: string; schema: string; plain: string } {
  const parts = [...source.matchAll(pattern(IDENT, "gu"))].map(([part]) => fold(part));
  const plain = parts.pop()!;
  if (isKind("schema|role", kind)) return { name: plain, schema: plain, plain };
  const [inSchema = schema] = parts;
  return { name: `${inSchema}.${plain}`, schema: inSchema, plain };
}

function fold(identifier: string): string {
  return identifier.startsWith('"') ? identifier.slice(1, -1).replaceAll('""', '"') : identifier.toLowerCase();
}
