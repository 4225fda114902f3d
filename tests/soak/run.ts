/** `npm run soak`: the history checker for as long as one likes. */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readArguments, run } from "../../local/command.ts";
import { RELIABILITY, writeBetween } from "../support/written.ts";
import { soak, summary } from "./soak.ts";

const HELP =
  `Random clients against a stack of its own that is killed, cut off, filled and moved in time; then its history is checked.

Usage: npm run soak -- [options]

  --minutes N          how long (default: 10)
  --write              writes the figures into docs/reliability.md
  --postgres-bin DIR   initdb and postgres of another Postgres (default: the embedded one; or set POSTGRES_BIN)
  --help`;

await run(async () => {
  const { values } = readArguments(HELP, {
    minutes: { type: "string" },
    write: { type: "boolean" },
    "postgres-bin": { type: "string" },
  });
  const directory = join(tmpdir(), `threadbase-soak-${crypto.randomUUID()}`);
  try {
    const report = await soak({
      seconds: 60 * Number(values.minutes ?? 10),
      directory,
      postgresBin: values["postgres-bin"] ?? (Deno.env.get("POSTGRES_BIN") || undefined),
      log: console.log,
    });
    console.log(summary(report));
    if (values.write) await writeBetween(RELIABILITY, "npm run soak -- --write", "```\n" + summary(report) + "\n```");
    return report.violations.length > 0 ? 1 : 0;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
