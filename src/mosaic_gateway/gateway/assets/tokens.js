// API tokens of the signed-in person: for programs, which send one instead of a cookie.

import { get, post } from "./api.js";
import { announce, h, moment, report } from "./dom.js";
import { ask, checkbox, field, formNotice } from "./forms.js";
import { showSecret } from "./person.js";

const DAYS = [["30", "30 days"], ["90", "90 days"], ["365", "One year"], ["", "No end"]];

const SCOPES = [
  ["forward", "open services whose rules accept tokens"],
  ["read", "read who has an account, if you are an admin"],
  ["admin", "administer people, as you may yourself"],
];

/** Return the section with the tokens of *user*. */
export async function tokenSection({ user }) {
  const notice = formNotice();
  const list = h("div", {});
  async function load() {
    const { ok, body, errors } = await get("/api/tokens");
    if (!ok) return announce(notice, errors[""]);
    const tokens = body.tokens.filter(({ revokedAt }) => !revokedAt);
    list.replaceChildren(tokens.length ? h("ul", { class: "rows" }, tokens.map(row)) : h("p", { class: "soft" }, "No tokens."));
  }
  const row = (token) => h("li", {}, h("div", { class: "person" }, h("strong", {}, token.name), facts(token)), h("button", {
    type: "button", class: "quiet small", "aria-label": `Revoke ${token.name}`, onclick: () => revoke(token, load),
  }, "Revoke"));
  await load();
  return h("section", { class: "panel" }, h("h2", {}, "API tokens"),
    h("p", { class: "soft" }, "A program sends a token in the header ", h("code", {}, "Authorization: Bearer …"), " and acts as you, within what you allow it."),
    notice, list, h("div", { class: "buttons" }, h("button", { type: "button", class: "quiet", onclick: () => create(user, load) }, "Create a token")));
}

const facts = (token) => h("span", { class: "soft" },
  token.expiresAt ? [new Date(token.expiresAt) < Date.now() ? "ended " : "ends ", moment(token.expiresAt)] : "no end", " · ",
  token.lastUsedAt ? ["last used ", moment(token.lastUsedAt)] : "not used yet",
  token.scopes?.length > 0 && ` · ${token.scopes.join(", ")}`);

function create(user, load) {
  const offered = SCOPES.filter(([scope]) => scope !== "admin" || (user.role ?? "").split(",").includes("admin"));
  ask({
    title: "Create a token", action: "Create",
    fields: [
      field({ name: "name", label: "Name", id: "token-name", hint: "Where it is used, such as: backup script.", maxlength: 200, autocomplete: "off" }),
      field({ name: "days", label: "Valid for", id: "token-days", options: DAYS, value: "90" }),
      h("fieldset", {}, h("legend", {}, "It may"), offered.map(([scope, text]) => checkbox(`scope-${scope}`, [h("code", {}, scope), `: ${text}`]))),
    ],
    run: async ({ name, days, ...values }) => {
      const scopes = offered.map(([scope]) => scope).filter((scope) => values[`scope-${scope}`]);
      if (!name.trim()) return { ok: false, errors: { name: "Enter a name." } };
      if (!scopes.length) return { ok: false, errors: { "": "Choose at least one thing that the token may do." } };
      return post("/api/tokens", { name: name.trim(), scopes, ...(days && { expiresInDays: Number(days) }) });
    },
    done: async ({ token }) => {
      showSecret("Your new token", "Copy it now: only its hash is stored.", token);
      await load();
    },
  });
}

function revoke(token, load) {
  ask({
    title: `Revoke ${token.name}?`, text: "Programs that use it are refused from now on.", action: "Revoke", danger: true,
    run: () => post("/api/tokens/revoke", { id: token.id }),
    done: async () => {
      report("The token was revoked.");
      await load();
    },
  });
}
