// Runs drizzle-orm's own migrator and prints each result as one line of JSON:
//
//   node migrate.mjs VERSION FOLDER URL [TABLE SCHEMA]    runs once
//   node migrate.mjs VERSION                              runs for each line of standard input, also concurrently:
//                                                         {"id", "folder", "url", "table", "schema"}
//
// VERSION is 045 or 1. URL is postgres://USER@HOST:PORT/DATABASE; with ?host=DIRECTORY the Unix socket in
// that directory is used. The packages are searched beside this file and in NODE_PATH.
// {"ok": true, "seconds": …} or {"ok": false, "seconds": …, "code": SQLSTATE or null, "message", "query"}, with "id"

import { createRequire } from "node:module";
import { performance } from "node:perf_hooks";
import process from "node:process";
import { createInterface } from "node:readline";

const [version, ...words] = process.argv.slice(2);
const require = createRequire(import.meta.url); // unlike import, it uses NODE_PATH
const { drizzle } = require(`drizzle-orm-${version}/postgres-js`);
const { migrate } = require(`drizzle-orm-${version}/postgres-js/migrator`);
const postgres = require("postgres");

async function run({ id, folder, url: address, table, schema }) {
  const url = new URL(address);
  const directory = url.searchParams.get("host");
  const client = postgres({
    user: decodeURIComponent(url.username),
    database: decodeURIComponent(url.pathname.slice(1)),
    ...(directory ? { path: `${directory}/.s.PGSQL.${url.port}` } : { host: url.hostname, port: Number(url.port) }),
    max: 1,
    onnotice: () => {},
  });
  await client`select 1`; // connect before the measurement starts
  const started = performance.now();
  const outcome = { id, ok: true };
  try {
    await migrate(version === "045" ? drizzle(client) : drizzle({ client }), {
      migrationsFolder: folder,
      ...(table && { migrationsTable: table, migrationsSchema: schema }),
    });
  } catch (error) {
    const cause = error.cause ?? error;
    Object.assign(outcome, { ok: false, code: cause.code ?? null, message: cause.message, query: error.query ?? null });
  }
  outcome.seconds = (performance.now() - started) / 1000;
  await client.end();
  console.log(JSON.stringify(outcome));
}

if (words.length) {
  const [folder, url, table, schema] = words;
  await run({ folder, url, table, schema });
} else {
  createInterface({ input: process.stdin }).on("line", (line) => run(JSON.parse(line)));
}
