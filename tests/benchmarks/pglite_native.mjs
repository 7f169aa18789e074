// PGlite by its own API: one COPY of the file ROWS into a new table for each line on standard input.
//
//   node pglite_native.mjs DATA ROWS
//
// Prints "ready", then the seconds that each COPY took. PGlite with its defaults: without fsync, in this thread.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import process from "node:process";
import { createInterface } from "node:readline";

const [data, rows] = process.argv.slice(2);
const require = createRequire(import.meta.url); // unlike import, it uses NODE_PATH
const { PGlite } = require("@electric-sql/pglite");

const blob = new Blob([readFileSync(rows)]);
const db = await PGlite.create({ dataDir: data });
console.log("ready");
for await (const _ of createInterface({ input: process.stdin })) {
  await db.exec("DROP TABLE IF EXISTS copied; CREATE TABLE copied (a int PRIMARY KEY, b text, c float8)");
  const start = performance.now();
  await db.query("COPY copied FROM '/dev/blob'", [], { blob });
  console.log((performance.now() - start) / 1000);
}
await db.close();
