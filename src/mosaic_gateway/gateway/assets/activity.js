// Activity: the audit log, for admins.

import { get } from "./api.js";
import { announce, counted, dateText, h, moment, table, tableRow } from "./dom.js";
import { field, formNotice } from "./forms.js";

/** Action → words; an action that is not listed is displayed as it is. */
const WORDS = {
  "account.change-email": "changed the own e-mail",
  "account.change-password": "changed the own password",
  "account.delete": "deleted the own account",
  "account.revoke-other-sessions": "signed out everywhere else",
  "account.revoke-session": "ended an own session",
  "account.revoke-sessions": "ended all own sessions",
  "account.unlink": "unlinked a way to sign in",
  "account.update": "changed the own profile",
  "bootstrap.setup": "created the first admin",
  "password.check-failed": "gave a wrong present password",
  "sign-in.failed": "failed to sign in",
  "sign-in.refused": "tried too often",
  "sign-in.succeeded": "signed in",
  "token.create": "created a token",
  "token.refused": "used an invalid token",
  "token.revoke": "revoked a token",
  "token.use": "used a token",
  "user.ban": "banned",
  "user.create": "added",
  "user.remove": "removed",
  "user.reset-link": "created a reset link for",
  "user.reset-password": "set a password by a link",
  "user.revoke-session": "ended a session of",
  "user.revoke-sessions": "ended the sessions of",
  "user.set-password": "set the password of",
  "user.set-role": "set the role of",
  "user.unban": "lifted the ban of",
  "user.update": "changed",
};

const NONE = () => h("span", { class: "none" }, "–");
const COLUMNS = ["Time", "Who", "What", "Whom", "Address", "Details"];

export async function activityView(body) {
  let older = null;
  const notice = formNotice();
  const action = field({ name: "action", label: "What", options: [["", "Everything"]], value: "" });
  const form = h("form", { class: "filters", novalidate: true }, action,
    field({ name: "person", label: "Who", autocomplete: "off", placeholder: "Name or e-mail" }),
    field({ name: "since", label: "From (UTC)", type: "date" }),
    field({ name: "until", label: "To (UTC)", type: "date" }),
    h("button", { type: "submit", class: "quiet" }, "Filter"));
  const list = table(COLUMNS, []);
  const rows = list.querySelector("tbody");
  const count = h("p", { class: "soft", role: "status" });
  const more = h("button", { type: "button", class: "quiet", onclick: () => load(older) }, "Show older entries");
  const exports = ["csv", "json"].map((format) => h("a", { class: "button quiet small", download: "" , "data-format": format }, `Export ${format.toUpperCase()}`));
  body.append(form, notice, h("div", { class: "toolbar" }, count, h("span", { class: "end buttons" }, exports)), list, h("div", { class: "buttons" }, more));

  const filter = () => Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
  async function load(before = null) {
    const answer = await get("/api/console/activity", { ...filter(), before });
    announce(notice, answer.ok ? "" : Object.values(answer.errors).join(" "));
    if (!answer.ok) return;
    if (!before) rows.replaceChildren();
    rows.append(...answer.body.entries.map(entryRow));
    older = answer.body.older;
    more.hidden = older === null;
    list.hidden = !rows.children.length;
    count.textContent = rows.children.length ? `${counted(rows.children.length, "entry", "entries")}${older === null ? "" : ", and older ones"}` : "No entries.";
    for (const link of exports) link.href = `/api/console/activity/export?${new URLSearchParams({ ...filter(), format: link.dataset.format })}`;
    fillActions(form.elements.action, answer.body.actions);
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    load();
  });
  await load();
}

function fillActions(select, actions) {
  for (const action of actions) {
    if ([...select.options].some(({ value }) => value === action)) continue;
    select.append(h("option", { value: action }, WORDS[action] ?? action));
  }
}

/** Return the parts of an e-mail or IP address, which breaks at its "@" and colons, if at all. */
const breakable = (address) => address.split(/(?=@)|(?<=:)/).flatMap((part, index) => index ? [h("wbr"), part] : [part]);

const person = (who, missing) => who ? h("div", { class: "person" }, h("span", {}, who.name ?? "removed"), who.email && h("span", { class: "soft" }, breakable(who.email))) : h("span", { class: "soft" }, missing);

/** Name of a detail or of a column → words; one that is not listed gets its own words apart: "someName" → "some name". */
const NAMES = {
  ban_expires: "end of the ban", ban_reason: "reason of the ban", code: "error", email: "e-mail", email_verified: "e-mail verified",
  formerEmail: "e-mail before", formerRole: "role before", otherSessionsRevoked: "other sessions ended", sessions: "sessions ended",
};

const words = (name) => NAMES[name] ?? name.replaceAll(/(?<=[a-z])[A-Z]|_/g, (mark) => mark === "_" ? " " : ` ${mark.toLowerCase()}`);

/** Return pairs of the details for a person: without ids, and without the columns that a ban, its end or a role changes anyway. */
function detailPairs(action, details) {
  const shown = Object.entries(details ?? {}).filter(([name]) => !name.endsWith("Id") && !(name === "changed" && action !== "user.update"));
  return shown.map(([name, value]) => [words(name), valueText(name, value)]);
}

function valueText(name, value) {
  if (name === "until") return value ? dateText(value) : "it is lifted";
  if (name === "changed") return value.map(words).join(", ");
  if (name === "code") return words(value.toLowerCase());
  if (Array.isArray(value)) return value.join(", ");
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function detailList(action, details) {
  const pairs = detailPairs(action, details);
  return pairs.length ? h("div", { class: "details" }, pairs.map(([name, text]) => h("div", {}, `${name}: ${text}`))) : NONE();
}

const entryRow = ({ at, actor, action, target, ipAddress, details }) => tableRow(COLUMNS, [
  h("span", { class: "when" }, moment(at, true)),
  person(actor, ipAddress ? "not signed in" : "command line"),
  h("span", { title: action }, WORDS[action] ?? action),
  target?.name && target.id !== actor?.id ? person(target) : NONE(),
  ipAddress ? h("span", {}, breakable(ipAddress)) : NONE(),
  detailList(action, details),
]);
