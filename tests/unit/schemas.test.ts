// How supabase/schemas are laid out: every object has one home, and a module uses what it may.
import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readModules } from "../../local/schemas.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const modules = readModules(root);
const files = modules.flatMap(({ name, uses, files }) =>
  files.map((file) => ({
    file,
    module: name,
    uses: ["foundation", name, ...uses],
    source: Deno.readTextFileSync(join(root, "supabase/schemas", file)),
  }))
);
const made = files.flatMap(({ module, source }) =>
  [...source.matchAll(/^create (?:table|view|type|function) ([a-z_]+\.[a-z_]+)/gm)].map(([, object]) => ({
    object,
    module,
  }))
);
const homes = new Map(made.map(({ object, module }) => [object, module]));

Deno.test("every object is made once, in files of about 500 lines at the most", () => {
  const objects = made.map(({ object }) => object);
  assertEquals(objects.toSorted(), [...new Set(objects)].toSorted());
  assert(objects.length > 250);
  assertEquals(files.filter(({ source }) => source.split("\n").length > 520).map(({ file }) => file), []);
});

Deno.test("a module uses foundation, itself and what it names, and asks whether others are there", () => {
  const used = files
    // These two look after whatever is there.
    .filter(({ module }) => module !== "retention" && module !== "users")
    .flatMap(({ file, uses, source }) =>
      [...source.replace(/--.*|'See [^']*'/g, "").matchAll(/\b(?:public|private|gateway)\.[a-z_]+\b/g)]
        .map(([object]) => ({ file, object, home: homes.get(object) }))
        .filter(({ home }) => home && !uses.includes(home))
    );
  // Responses show messages of conversations: what prunes and erases these looks for them, where there are responses.
  assertEquals([...new Set(used.map(({ file, object }) => `${file}: ${object}`))].toSorted(), [
    "20_conversations/deletion.sql: private.response_conversations",
    "20_conversations/deletion.sql: public.conversation_states",
    "20_conversations/erasure.sql: private.response_conversations",
    "20_conversations/erasure.sql: public.conversation_states",
  ]);
});
