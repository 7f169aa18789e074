// better-auth's checks of origins, on request.
//
//     node origins.mjs MODULES BASE_URL TRUSTED_ORIGIN...
//
// Serves better-auth on a database in memory, and prints the port. Then reads lines of JSON, each a list of
// [url, pattern, allowRelativePaths], and prints for each line the list of matchesOriginPattern's results.
import http from "node:http";
import path from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [modules, baseURL, ...trustedOrigins] = process.argv.slice(2);
const load = (file) => import(pathToFileURL(path.join(modules, "better-auth", "dist", file)));
const { betterAuth } = await load("index.mjs");
const { toNodeHandler } = await load("integrations/node.mjs");
const { memoryAdapter } = await load("adapters/memory-adapter/index.mjs");
const { matchesOriginPattern } = await load("auth/trusted-origins.mjs");

const auth = betterAuth({
  baseURL,
  trustedOrigins,
  secret: "a secret of at least thirty-two characters",
  database: memoryAdapter({ user: [], session: [], account: [], verification: [] }),
  emailAndPassword: { enabled: true },
  rateLimit: { enabled: false },
  logger: { disabled: true },
});

const server = http.createServer(toNodeHandler(auth));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
for await (const line of createInterface({ input: process.stdin })) {
  const results = JSON.parse(line).map(([url, pattern, allowRelativePaths]) =>
    matchesOriginPattern(url, pattern, { allowRelativePaths }),
  );
  console.log(JSON.stringify(results));
}
server.close();
