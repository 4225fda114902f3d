/** What `npm run import` was given: files, folders and archives, as the streams that are in them. */
import { configure, Reader, ZipReader } from "@zip.js/zip.js";
import { basename, join } from "node:path";
import { StackError } from "./errors.ts";

/** A file to import, or one that is in an archive. */
export interface Source {
  name: string;
  size: number;
  open(): ReadableStream<Uint8Array>;
}

// A worker would take longer to start than most archives to read.
configure({ useWebWorkers: false });

/** A large export has several: conversations-000.json, conversations-001.json … */
const EXPORTED = /^conversations(-\d+)?\.json$/;

const inOrder = (a: string, b: string) => a.localeCompare(b, "en", { numeric: true });

/** @throws {StackError} For what cannot be read, and for a folder or an archive without conversations. */
export async function findSources(paths: string[]): Promise<Source[]> {
  const sources: Source[] = [];
  for (const path of paths) {
    try {
      sources.push(...(await Deno.stat(path)).isDirectory ? await inFolder(path) : await inFile(path));
    } catch (error) {
      throw error instanceof StackError ? error : new StackError(`${path}: ${(error as Error).message}`);
    }
  }
  return sources;
}

async function inFolder(path: string): Promise<Source[]> {
  const names = (await Array.fromAsync(Deno.readDir(path))).map(({ name }) => name).filter((name) =>
    EXPORTED.test(name)
  );
  if (names.length === 0) {
    throw new StackError(`${path}: no conversations.json is in it, and no conversations-000.json.`);
  }
  return await Promise.all(names.toSorted(inOrder).map((name) => asFile(join(path, name))));
}

async function inFile(path: string): Promise<Source[]> {
  const file = await Deno.open(path);
  const start = new Uint8Array(4);
  await file.read(start);
  if (new TextDecoder().decode(start) !== "PK\x03\x04") {
    file.close();
    return [await asFile(path)];
  }

  // Open until the process ends: what is in it is read one after the other.
  const entries = await new ZipReader(new FileReader(file, (await file.stat()).size)).getEntries();
  const found = entries.filter((entry) => !entry.directory && EXPORTED.test(basename(entry.filename)))
    .toSorted((a, b) => inOrder(a.filename, b.filename));
  if (found.length === 0) {
    throw new StackError(`${path}: no conversations.json is in it, and no conversations-000.json.`);
  }
  return found.map((entry) => ({
    name: `${path}/${entry.filename}`,
    size: entry.uncompressedSize,
    open() {
      const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
      if (entry.directory) return readable;
      // Whoever reads gets the error.
      entry.getData(writable, { checkSignature: true }).catch((error) => writable.abort(error).catch(() => {}));
      return readable;
    },
  }));
}

async function asFile(path: string): Promise<Source> {
  return { name: path, size: (await Deno.stat(path)).size, open: () => Deno.openSync(path).readable };
}

/** Reads an archive where it stands, and not into memory. */
class FileReader extends Reader<Deno.FsFile> {
  readonly #file: Deno.FsFile;

  constructor(file: Deno.FsFile, size: number) {
    super(file);
    this.#file = file;
    this.size = size;
  }

  override async readUint8Array(index: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(Math.min(length, this.size - index));
    await this.#file.seek(index, Deno.SeekMode.Start);
    let at = 0;
    while (at < bytes.length) {
      const read = await this.#file.read(bytes.subarray(at));
      if (read === null) break;
      at += read;
    }
    return bytes.subarray(0, at);
  }
}
