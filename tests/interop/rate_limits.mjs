// better-auth with its rate limits in a database of the gateway.
//
//     node rate_limits.mjs MODULES '{"host": …, "port": …, "user": …, "database": …}' SECRET
//
// Prints the port. A request's address is that in X-Forwarded-For.
import http from "node:http";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, connection, secret] = process.argv.slice(2);
const load = (...file) => import(pathToFileURL(path.join(modules, ...file)));
const { betterAuth } = await load("better-auth", "dist", "index.mjs");
const { toNodeHandler } = await load("better-auth", "dist", "integrations", "node.mjs");
const pg = (await load("pg", "lib", "index.js")).default;

const columns = (...names) =>
  Object.fromEntries(names.map((name) => [name, name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)]));
const tokens = columns("accessToken", "refreshToken", "idToken", "accessTokenExpiresAt", "refreshTokenExpiresAt");
const times = columns("createdAt", "updatedAt");
const expiry = columns("expiresAt");

let handler;
const server = http.createServer((request, response) => handler(request, response));
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  const auth = betterAuth({
    database: new pg.Pool(JSON.parse(connection)),
    secret,
    baseURL: `http://127.0.0.1:${port}`,
    emailAndPassword: { enabled: true },
    user: { modelName: "users", fields: { ...times, ...columns("emailVerified") } },
    session: {
      modelName: "sessions",
      fields: { ...times, ...expiry, ...columns("ipAddress", "userAgent", "userId") },
    },
    account: { modelName: "accounts", fields: { ...times, ...tokens, ...columns("accountId", "providerId", "userId") } },
    verification: { modelName: "verifications", fields: { ...times, ...expiry } },
    rateLimit: {
      enabled: true,
      storage: "database",
      modelName: "rate_limits",
      fields: { lastRequest: "last_request" },
    },
    logger: { disabled: true },
    telemetry: { enabled: false },
  });
  handler = toNodeHandler(auth);
  console.log(port);
});
