// What a person writes without this project: Node, drizzle-orm and PGlite, from nothing to the whole schema.
//
//   node pglite_peer.mjs DATA FOLDER…
//
// FOLDER are migrations as drizzle-kit makes them, each with a ledger of its own. Prints nothing when all is well.

import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

const [data, ...folders] = process.argv.slice(2);
const require = createRequire(import.meta.url); // unlike import, it heeds NODE_PATH
const { PGlite } = require("@electric-sql/pglite");
const { vector } = require("@electric-sql/pglite-pgvector");
const { drizzle } = require("drizzle-orm-045/pglite");
const { migrate } = require("drizzle-orm-045/pglite/migrator");

const client = await PGlite.create({ dataDir: data, extensions: { vector } });
for (const folder of folders) {
  await migrate(drizzle({ client }), { migrationsFolder: folder, migrationsTable: `ledger_${path.basename(folder)}` });
}
await client.close();
