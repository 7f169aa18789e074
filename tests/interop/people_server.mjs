// better-auth with its admin plugin on a database of the gateway.
//
//     node people_server.mjs MODULES '{"host": …, "port": …, "user": …, "database": …}' SECRET
//
// Prints the port. Options as the gateway behaves: no e-mail, sessions end with a reset password, hashed reset tokens.
import http from "node:http";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, connection, secret] = process.argv.slice(2);
const load = (...file) => import(pathToFileURL(path.join(modules, ...file)));
const { betterAuth } = await load("better-auth", "dist", "index.mjs");
const { admin } = await load("better-auth", "dist", "plugins", "index.mjs");
const { toNodeHandler } = await load("better-auth", "dist", "integrations", "node.mjs");
const pg = (await load("pg", "lib", "index.js")).default;

const columns = (...names) =>
  Object.fromEntries(names.map((name) => [name, name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)]));

let handler;
const server = http.createServer((request, response) => handler(request, response));
server.listen(0, "127.0.0.1", () => {
  const { port } = server.address();
  const auth = betterAuth({
    database: new pg.Pool(JSON.parse(connection)),
    secret,
    baseURL: `http://127.0.0.1:${port}`,
    rateLimit: { enabled: false },
    emailAndPassword: { enabled: true, disableSignUp: true, revokeSessionsOnPasswordReset: true },
    user: {
      modelName: "users",
      fields: columns("emailVerified", "createdAt", "updatedAt"),
      changeEmail: { enabled: true, updateEmailWithoutVerification: true },
      deleteUser: { enabled: true },
    },
    session: {
      modelName: "sessions",
      fields: columns("expiresAt", "createdAt", "updatedAt", "ipAddress", "userAgent", "userId"),
    },
    account: {
      modelName: "accounts",
      fields: columns(
        "accountId", "providerId", "userId", "accessToken", "refreshToken", "idToken", "accessTokenExpiresAt",
        "refreshTokenExpiresAt", "createdAt", "updatedAt",
      ),
    },
    verification: {
      modelName: "verifications",
      fields: columns("expiresAt", "createdAt", "updatedAt"),
      storeIdentifier: "hashed",
    },
    plugins: [
      admin({
        schema: {
          user: { fields: columns("banReason", "banExpires") },
          session: { fields: columns("impersonatedBy") },
        },
      }),
    ],
    logger: { disabled: true },
    telemetry: { enabled: false },
  });
  handler = toNodeHandler(auth);
  console.log(port);
});
