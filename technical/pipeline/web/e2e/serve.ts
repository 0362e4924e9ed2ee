/** The built page on a port of this machine, with the headers it is meant to have and nothing compressed. */

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { HEADERS } from "../csp.ts";

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

export interface Served {
  readonly address: string;
  close(): Promise<void>;
}

/** Serves `dist`, with `/models/` from `models`. */
export async function serve(dist: string, models: string): Promise<Served> {
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url ?? "/", "http://localhost").pathname);
    const file = path.startsWith("/models/") ? join(models, path.slice(8)) : join(dist, path === "/" ? "index.html" : path);
    readFile(file).then(
      (content) => {
        const type = TYPES[extname(file)] ?? "application/octet-stream";
        response.writeHead(200, { ...HEADERS, "Content-Type": type }).end(content);
      },
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    address: `http://127.0.0.1:${port}/`,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
