// What a filter means, in TypeScript and from its description alone: nothing here knows how the database does it.

// deno-lint-ignore no-explicit-any -- any JSON
export type Json = any;
export type Document = { id: string; creation_utc: string } & Record<string, Json>;

/** Whether a document matches a filter. */
export function matches(filter: Json, document: Document): boolean {
  return Object.entries<Json>(filter).every(([key, value]) => {
    if (key === "$and") return value.every((part: Json) => matches(part, document));
    if (key === "$or") return value.some((part: Json) => matches(part, document));
    const operators = isObject(value) && Object.keys(value).some((name) => name.startsWith("$"))
      ? value
      : { $eq: value };
    return Object.entries(operators).every(([operator, operand]) =>
      key === "creation_utc" && !["$like", "$contains", "$exists"].includes(operator)
        ? compare[operator](instant(document[key]), Array.isArray(operand) ? operand.map(instant) : instant(operand))
        : compare[operator](read(document, key), operand)
    );
  });
}

/** Documents in the order of a list. */
export function inOrder(documents: Document[]): Document[] {
  return documents.toSorted((a, b) =>
    Date.parse(a.creation_utc) - Date.parse(b.creation_utc) || compareText(a.id, b.id)
  );
}

/** JSON that is the same for equal values. */
export function canonical(value: Json): string {
  return JSON.stringify(
    value,
    (_, part) => isObject(part) ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => a < b ? -1 : 1)) : part,
  );
}

const isObject = (value: Json): boolean => typeof value === "object" && value !== null && !Array.isArray(value);

/** A dot is a path, a number in it an element of an array. Undefined: missing. */
function read(document: Json, field: string): Json {
  return field.split(".").reduce((value, part) => {
    if (Array.isArray(value)) return /^\d+$/.test(part) ? value[Number(part)] : undefined;
    return isObject(value) && Object.hasOwn(value, part) ? value[part] : undefined;
  }, document);
}

/** The same text for the same instant, nothing for what is a text and none. */
function instant(value: Json): Json {
  if (typeof value !== "string") return value;
  return /^\d{4}-\d\d-\d\d[T ]/.test(value) ? new Date(value.replace(/[+]\d\d$/, "$&:00")).toISOString() : undefined;
}

const equal = (a: Json, b: Json): boolean => canonical(a) === canonical(b);

/** By code point, as UTF-8 sorts; `<` would compare UTF-16. */
function compareText(a: string, b: string): number {
  const [left, right] = [[...a], [...b]];
  for (let i = 0; i < Math.min(left.length, right.length); i++) {
    const difference = left[i].codePointAt(0)! - right[i].codePointAt(0)!;
    if (difference) return difference;
  }
  return left.length - right.length;
}

const range = (holds: (order: number) => boolean) => (field: Json, operand: Json): boolean =>
  typeof field === typeof operand &&
  holds(typeof field === "string" ? compareText(field, operand) : Number(field) - Number(operand));

function contains(container: Json, part: Json): boolean {
  if (Array.isArray(container) && Array.isArray(part)) {
    return part.every((wanted) =>
      container.some((element) =>
        typeof wanted === "object" && wanted !== null ? contains(element, wanted) : equal(element, wanted)
      )
    );
  }
  if (isObject(container) && isObject(part)) {
    return Object.entries<Json>(part).every(([key, wanted]) =>
      Object.hasOwn(container, key) &&
      (typeof wanted === "object" && wanted !== null ? contains(container[key], wanted) : equal(container[key], wanted))
    );
  }
  return false;
}

function like(text: string, pattern: string): boolean {
  const expression = pattern.replaceAll(
    /\\(.)|([%_])|([^\\%_])/gsu,
    (_, escaped, wildcard, plain) =>
      wildcard === "%" ? ".*" : wildcard === "_" ? "." : (escaped ?? plain).replace(/[\\^$.*+?()[\]{}|/]/u, "\\$&"),
  );
  return new RegExp(`^${expression}$`, "su").test(text);
}

const compare: Record<string, (field: Json, operand: Json) => boolean> = {
  $eq: (field, operand) => equal(field ?? null, operand),
  $ne: (field, operand) => !equal(field ?? null, operand),
  $gt: range((order) => order > 0),
  $gte: range((order) => order >= 0),
  $lt: range((order) => order < 0),
  $lte: range((order) => order <= 0),
  $in: (field, operand) => operand.some((value: Json) => equal(field ?? null, value)),
  $nin: (field, operand) => !operand.some((value: Json) => equal(field ?? null, value)),
  $exists: (field, operand) => (field !== undefined) === operand,
  $contains: (field, operand) =>
    typeof operand === "object" && operand !== null
      ? contains(field, operand)
      : Array.isArray(field) && contains(field, [operand]),
  $like: (field, operand) => typeof field === "string" && like(field, operand),
};
