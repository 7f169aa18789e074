// The equivalent without this project: Node.js, drizzle-orm and PGlite, from an empty directory to the whole schema.
//
//   node pglite_peer.mjs DATA FOLDER…
//
// Each FOLDER contains migrations in drizzle-kit's format and gets a ledger of its own. Prints nothing on success.

import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";

const [data, ...folders] = process.argv.slice(2);
const require = createRequire(import.meta.url); // unlike import, it uses NODE_PATH
const { PGlite } = require("@electric-sql/pglite");
const { vector } = require("@electric-sql/pglite-pgvector");
const { drizzle } = require("drizzle-orm-045/pglite");
const { migrate } = require("drizzle-orm-045/pglite/migrator");

const client = await PGlite.create({ dataDir: data, extensions: { vector } });
for (const folder of folders) {
  await migrate(drizzle({ client }), { migrationsFolder: folder, migrationsTable: `ledger_${path.basename(folder)}` });
}
await client.close();
