// A day in better-auth's own client, with its admin client: node people_client.mjs MODULES BASE_URL ADMIN USER PASSWORD
//
// ADMIN and USER are Cookie headers. Prints a JSON list of [what, data, error], one for each call.
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, baseURL, adminCookie, userCookie, password] = process.argv.slice(2);
const load = (file) => import(pathToFileURL(path.join(modules, "better-auth", "dist", "client", file)));
const { createAuthClient } = await load("index.mjs");
const { adminClient } = await load(path.join("plugins", "index.mjs"));

function browser(cookie) {
  const jar = new Map(cookie.split("; ").map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]));
  return createAuthClient({
    baseURL,
    plugins: [adminClient()],
    fetchOptions: {
      customFetchImpl: async (url, options) => {
        const headers = new Headers(options.headers);
        headers.set("origin", baseURL);
        headers.set("cookie", [...jar].map((pair) => pair.join("=")).join("; "));
        const response = await fetch(url, { ...options, headers });
        for (const line of response.headers.getSetCookie()) {
          const [name, value] = line.split(";")[0].split(/=(.*)/s);
          if (line.includes("Max-Age=0")) jar.delete(name);
          else jar.set(name, value);
        }
        return response;
      },
    },
  });
}

const answers = [];
async function call(what, promise) {
  const { data, error } = await promise;
  answers.push([what, data, error && { status: error.status, code: error.code, message: error.message }]);
  return data;
}

const boss = browser(adminCookie);
const user = browser(userCookie);

const made = await call("create", boss.admin.createUser({ email: "New@example.com", password, name: "New", role: "user" }));
await call("create again", boss.admin.createUser({ email: "new@example.com", name: "New" }));
const userId = made.user.id;
await call("list", boss.admin.listUsers({ query: { searchValue: "new", sortBy: "name", sortDirection: "desc", limit: 10 } }));
await call("filter", boss.admin.listUsers({ query: { filterField: "role", filterValue: "admin", filterOperator: "eq" } }));
await call("get", boss.admin.getUser({ query: { id: userId } }));
await call("update", boss.admin.updateUser({ userId, data: { name: "Newer", emailVerified: true } }));
await call("role", boss.admin.setRole({ userId, role: ["user", "admin"] }));
await call("password", boss.admin.setUserPassword({ userId, newPassword: `${password}!` }));
await call("ban", boss.admin.banUser({ userId, banReason: "spam", banExpiresIn: 3600 }));
await call("banned sign-in", browser("a=b").signIn.email({ email: "new@example.com", password: `${password}!` }));
await call("unban", boss.admin.unbanUser({ userId }));
const fresh = browser("a=b");
const signedIn = await call("sign-in", fresh.signIn.email({ email: "new@example.com", password: `${password}!` }));
await call("sessions of user", boss.admin.listUserSessions({ userId }));
await call("revoke one", boss.admin.revokeUserSession({ sessionToken: signedIn.token }));
await call("session gone", fresh.getSession());
await call("revoke all", boss.admin.revokeUserSessions({ userId }));
await call("permission", boss.admin.hasPermission({ permissions: { user: ["ban"], session: ["list"] } }));
await call("no permission", user.admin.hasPermission({ permissions: { user: ["ban"] } }));
await call("not allowed", user.admin.listUsers({ query: {} }));
await call("remove", boss.admin.removeUser({ userId }));
await call("removed", boss.admin.getUser({ query: { id: userId } }));
await call("ban self", boss.admin.banUser({ userId: "admin1" }));

await call("rename", user.updateUser({ name: "Renamed", image: "/me.png" }));
await call("wrong password", user.changePassword({ currentPassword: "wrong", newPassword: "a new password" }));
await call("change password", user.changePassword({
  currentPassword: password, newPassword: "a new password", revokeOtherSessions: true,
}));
await call("verify password", user.$fetch("/verify-password", { method: "POST", body: { password: "a new password" } }));
const list = await call("own sessions", user.listSessions());
await call("revoke foreign", user.revokeSession({ token: "none" }));
await call("revoke others", user.revokeOtherSessions());
await call("change e-mail", user.changeEmail({ newEmail: "Renamed@example.com" }));
await call("session", user.getSession());
await call("request reset", user.requestPasswordReset({ email: "user1@example.com" }));
await call("bad reset", user.resetPassword({ newPassword: "a new password", token: "none" }));
await call("revoke own", user.revokeSession({ token: list[0].token }));
await call("signed out", user.getSession());
await call("delete signed out", user.deleteUser({ password }));
const again = browser("a=b");
await call("sign in again", again.signIn.email({ email: "renamed@example.com", password: "a new password" }));
await call("delete", again.deleteUser({ password: "a new password" }));
await call("deleted", again.getSession());
await call("revoke all own", boss.revokeSessions());
await call("signed out too", boss.getSession());

console.log(JSON.stringify(answers));
