/** `/` of the gateway: where everything is, as a page for people and as JSON for programs. */
import { join } from "node:path";
import type { Functions } from "./functions.ts";
import { failure } from "./responses.ts";

/** @returns What answers `/`, and `/docs/<file>` with the documentation of the repository. */
export function createHome(root: string, publishableKey: string, functions: Functions) {
  return async (request: Request): Promise<Response> => {
    const { pathname, origin } = new URL(request.url);
    const docs = await documents(root);
    if (pathname !== "/") {
      const file = docs.get(pathname);
      if (!file) return failure(404, "NOT_FOUND", "Requested path was not found");
      return new Response(await Deno.readFile(file), { headers: { "content-type": "text/plain; charset=utf-8" } });
    }
    const urls = Object.fromEntries(
      ["functions", "rest", "auth"].map((service) => [service, `${origin}/${service}/v1`]),
    );
    const names = functions.names.toSorted();
    if (!request.headers.get("accept")?.includes("text/html")) {
      return Response.json({
        name: "Threadbase local stack",
        urls,
        publishable_key: publishableKey,
        functions: names.map((name) => ({
          name,
          health: `${urls.functions}/${name}/health`,
          openapi: `${urls.functions}/${name}/openapi.json`,
        })),
        docs: [...docs.keys()].map((path) => origin + path),
      });
    }
    return new Response(page(urls, publishableKey, names, [...docs.keys()]), {
      headers: {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
      },
    });
  };
}

/** Paths of this server to files of the repository. */
async function documents(root: string): Promise<Map<string, string>> {
  const docs = new Map([["/docs/README.md", join(root, "README.md")]]);
  const entries = await Array.fromAsync(Deno.readDir(join(root, "docs"))).catch(() => []);
  for (const name of entries.map((entry) => entry.name).toSorted()) {
    if (name.endsWith(".md")) docs.set(`/docs/${name}`, join(root, "docs", name));
  }
  return docs;
}

const escape = (text: string) => text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);

function page(urls: Record<string, string>, publishableKey: string, names: string[], docs: string[]): string {
  const row = (...cells: string[]) => `<tr>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
  const link = (href: string, text: string) => `<a href="${escape(href)}">${escape(text)}</a>`;
  const code = (text: string) => `<code>${escape(text)}</code>`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Threadbase</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 3rem auto; padding: 0 1rem; }
  h1 { margin: 0; }
  h2 { font-size: 1rem; margin: 2rem 0 .25rem; }
  table { border-collapse: collapse; width: 100%; }
  td { border-top: 1px solid color-mix(in srgb, currentColor 20%, transparent); padding: .35rem 1rem .35rem 0; }
  code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
  p { margin: .25rem 0; }
</style>
<h1>Threadbase</h1>
<p>The durable memory of LLM applications: the local stack, running.</p>
<h2>URLs</h2>
<table>
${Object.entries(urls).map(([name, url]) => row(name, code(url))).join("\n")}
${row("publishable key", code(publishableKey))}
</table>
<p>The secret key and the database: ${code("npm run status")}</p>
<h2>Functions</h2>
<table>
${
    names.map((name) =>
      row(
        escape(name),
        link(`/functions/v1/${name}/health`, "health"),
        link(`/functions/v1/${name}/openapi.json`, "openapi.json"),
      )
    ).join("\n")
  }
</table>
<h2>Documentation</h2>
<p>${docs.map((path) => link(path, path.slice("/docs/".length))).join(" · ")}</p>
`;
}
