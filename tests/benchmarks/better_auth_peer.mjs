// The real better-auth in Node.js, on the database and with the secret of an installed gateway.
//
//     node better_auth_peer.mjs MODULES CONNECTION SECRET_FILE BASE_URL
//
// CONNECTION is the JSON of pg's options. Prints the port.

import { readFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import process from "node:process";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, connection, secretFile, baseURL] = process.argv.slice(2);
const load = (file) => import(pathToFileURL(path.join(modules, "better-auth", "dist", file)));
const { betterAuth } = await load("index.mjs");
const { toNodeHandler } = await load("integrations/node.mjs");
const { admin } = await load("plugins/admin/index.mjs");
const { Pool } = createRequire(path.join(modules, "x.js"))("pg");

const times = { createdAt: "created_at", updatedAt: "updated_at" };
const auth = betterAuth({
  baseURL,
  secret: readFileSync(secretFile, "utf8").trim(),
  database: new Pool({ ...JSON.parse(connection), max: 8 }),
  emailAndPassword: { enabled: true },
  rateLimit: { enabled: false },
  logger: { disabled: true },
  telemetry: { enabled: false },
  plugins: [admin({ schema: { user: { fields: { banReason: "ban_reason", banExpires: "ban_expires" } }, session: { fields: { impersonatedBy: "impersonated_by" } } } })],
  user: { modelName: "users", fields: { ...times, emailVerified: "email_verified" } },
  session: {
    modelName: "sessions",
    fields: { ...times, expiresAt: "expires_at", ipAddress: "ip_address", userAgent: "user_agent", userId: "user_id" },
  },
  account: {
    modelName: "accounts",
    fields: {
      ...times, accountId: "account_id", providerId: "provider_id", userId: "user_id", accessToken: "access_token",
      refreshToken: "refresh_token", idToken: "id_token", accessTokenExpiresAt: "access_token_expires_at",
      refreshTokenExpiresAt: "refresh_token_expires_at",
    },
  },
  verification: { modelName: "verifications", fields: { ...times, expiresAt: "expires_at" } },
});
const server = http.createServer(toNodeHandler(auth));
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
