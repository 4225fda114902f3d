// A real browser: it refuses what no other client does.
import { chromium, type Page } from "playwright-core";
import { join } from "node:path";
import { block, readDocs } from "./docs.ts";
import { root } from "./project.ts";

/** Chromium or a browser built from it, if one is installed. */
export const browserPath = [
  Deno.env.get("CHROMIUM_BIN"),
  "/usr/bin/chromium",
  "/usr/bin/chromium-browser",
  "/usr/bin/google-chrome",
].find((path) => path && isFile(path));

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** Twice what a step may take on a machine that is busy with other tests. */
const PATIENCE_MS = 60_000;

/** A test in a browser. Without one it is left out with a word about it, and fails where `CI` is set. */
export function browserTest(name: string, run: (page: Page) => Promise<void>): void {
  const isMissing = !browserPath;
  const complaint = "Chromium is missing: install it, or name it in CHROMIUM_BIN.";
  if (isMissing) console.warn(`NOT TESTED: "${name}". ${complaint}`);
  Deno.test({
    name,
    ignore: isMissing && !Deno.env.get("CI"),
    sanitizeOps: true,
    sanitizeResources: true,
    async fn() {
      if (isMissing) throw new Error(complaint);
      await onPage(run);
    },
  });
}

/** Opens a page of an origin of its own with frontend.ts in it, in a browser that reaches this machine alone. */
async function onPage(run: (page: Page) => Promise<void>): Promise<void> {
  const script = await bundleFrontend();
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, ({ url }) => {
    const [type, body] = new URL(url).pathname === "/frontend.js"
      ? ["text/javascript", script]
      : ["text/html", '<!doctype html><title>Frontend</title><script src="/frontend.js" type="module"></script>'];
    return new Response(body, { headers: { "content-type": type } });
  });
  try {
    const browser = await chromium.launch({
      executablePath: browserPath,
      timeout: PATIENCE_MS,
      // Its sockets are in there, and their paths may have 107 bytes: those of the tests' own folder are too long.
      env: { ...Deno.env.toObject(), TMPDIR: "/tmp" },
      // With handlers of its own the test process would outlive a SIGTERM. The browser ends with its pipe anyway.
      handleSIGINT: false,
      handleSIGTERM: false,
      handleSIGHUP: false,
      args: [
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-gpu",
        "--disable-quic",
        "--disable-sync",
        "--no-first-run",
      ],
    });
    try {
      const page = await browser.newPage();
      page.setDefaultTimeout(PATIENCE_MS);
      await page.goto(`http://localhost:${server.addr.port}/`);
      await run(page);
    } finally {
      await browser.close();
    }
  } finally {
    await server.shutdown();
  }
}

async function bundleFrontend(): Promise<string> {
  const entry = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(
    entry,
    [
      `import { API_URL, supabase } from "${new URL("frontend.ts", import.meta.url)}";`,
      block(await readDocs("docs/sessions.md"), "ts", "async function follow"),
      "globalThis.follow = follow;",
    ].join("\n"),
  );
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--quiet", "--platform=browser", "--config", join(root, "deno.json"), entry],
  }).output();
  await Deno.remove(entry);
  if (!success) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}
