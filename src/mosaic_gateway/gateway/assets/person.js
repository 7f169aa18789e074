// One person, in a dialog of the People view: role, sessions, reset link, ban, removal.

import { post } from "./api.js";
import { announce, browserName, h, moment, report } from "./dom.js";
import { ask, field, formNotice, onSubmit, openDialog, showErrors } from "./forms.js";

const DAYS = 86400; // seconds

const ROLE = /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$/;

export const roleTags = (user) => h("span", { class: "tags" },
  (user.role || "user").split(",").map((role) => h("span", { class: `tag ${role === "admin" ? "strong" : ""}` }, role)));

export const stateTag = (user) => user.banned
  ? h("span", { class: "tag fault", title: user.banReason ?? "" }, user.banExpires ? "banned until " : "banned", user.banExpires && moment(user.banExpires, true))
  : h("span", { class: "tag ok" }, "active");

/** Open the dialog of *user*; *refresh* is called after each change. */
export function openPerson(user, me, refresh) {
  const notice = formNotice();
  const own = user.id === me.user.id;
  const facts = h("p", { class: "person-facts" });
  const display = () => facts.replaceChildren(h("span", {}, user.email), roleTags(user), stateTag(user));
  const changed = async (text) => {
    display();
    report(text);
    await refresh();
  };
  display();
  const dialog = openDialog(user.name, facts, user.banned && user.banReason && h("p", { class: "soft" }, `Reason of the ban: ${user.banReason}`),
    notice, !own && roleForm(user, changed), sessionSection(user, me, notice, changed),
    h("section", {}, h("h3", {}, "Access"), h("div", { class: "buttons" },
      h("button", { type: "button", class: "quiet", onclick: () => resetLink(user, notice) }, "Create a reset link"),
      !own && banButton(user, () => dialog.close(), changed),
      !own && h("button", { type: "button", class: "danger", onclick: () => removePerson(user, () => dialog.close(), changed) }, "Remove"))),
    own && h("p", { class: "soft" }, "This is you. Change your own account under My account."));
}

function roleForm(user, changed) {
  const form = h("form", { class: "row", novalidate: true }, formNotice(),
    field({ name: "role", label: "Roles", id: "person-role", value: (user.role || "user").replaceAll(",", ", "), autocomplete: "off",
      hint: "admin, user, or names that rules for services use; several with commas." }),
    h("button", { type: "submit", class: "quiet" }, "Set roles"));
  return onSubmit(form, async ({ role }) => {
    const roles = role.split(",").map((name) => name.trim()).filter(Boolean);
    if (!roles.length) return showErrors(form, { role: "Enter a role." });
    const wrong = roles.find((name) => !ROLE.test(name));
    if (wrong) return showErrors(form, { role: `“${wrong}” cannot be a role: a role has letters, digits and _.:- only, begins with a letter or a digit, and has at most 64 characters.` });
    const { ok, body, errors } = await post("/api/auth/admin/set-role", { userId: user.id, role: roles });
    showErrors(form, errors);
    if (!ok) return;
    user.role = body.user.role;
    await changed(`${user.name} has the role${roles.length > 1 ? "s" : ""} ${roles.join(", ")}.`);
  });
}

function sessionSection(user, me, notice, changed) {
  const list = h("div", {}, h("p", { class: "soft" }, "Loading …"));
  async function load() {
    const { ok, body, errors } = await post("/api/auth/admin/list-user-sessions", { userId: user.id });
    if (!ok) return announce(notice, errors[""]);
    list.replaceChildren(body.sessions.length ? h("ul", { class: "rows" }, body.sessions.map(row)) : h("p", { class: "soft" }, "Not signed in anywhere."));
  }
  const isOwn = (session) => session.id === me.session.id;
  const row = (session) => h("li", {}, sessionText(session, isOwn(session)), !isOwn(session) && h("button", {
    type: "button", class: "quiet small", "aria-label": `End the session of ${browserName(session.userAgent)}`,
    onclick: () => end("revoke-user-session", { sessionToken: session.token }),
  }, "End"));
  async function end(path, body) {
    const { ok, errors } = await post(`/api/auth/admin/${path}`, body);
    announce(notice, ok ? "" : errors[""]);
    if (ok) await Promise.all([load(), changed("The session has ended.")]);
  }
  load();
  return h("section", {}, h("h3", {}, "Sessions"), list);
}

/** Return the text of a session: browser, address, last use. */
export const sessionText = (session, own = false) => h("div", { class: "person" },
  h("strong", {}, browserName(session.userAgent), own && h("span", { class: "tag ok" }, "this device")),
  h("span", { class: "soft" }, session.ipAddress ? `${session.ipAddress} · ` : "", "signed in ", moment(session.createdAt)));

async function resetLink(user, notice) {
  const { ok, body, errors } = await post("/api/auth/admin/create-reset-link", { userId: user.id });
  announce(notice, ok ? "" : errors[""]);
  if (ok) showSecret("Reset link", `With this link ${user.name} can choose a new password. It works once, and expires in 24 hours. Send it in a way that you trust.`, body.url);
}

/** Display a *secret* once, with a button that copies it. */
export function showSecret(title, text, secret) {
  const code = h("code", {}, secret);
  const copy = h("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(secret);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
    }
  } }, "Copy");
  openDialog(title, h("p", { class: "intro" }, text), h("pre", { class: "secret", tabindex: "0" }, code),
    h("p", { class: "soft" }, "It is not displayed again."), h("div", { class: "buttons" }, copy));
}

function banButton(user, close, changed) {
  if (user.banned) {
    return h("button", { type: "button", class: "quiet", onclick: () => ask({
      title: `Lift the ban of ${user.name}?`, action: "Lift the ban",
      run: () => post("/api/auth/admin/unban-user", { userId: user.id }), done: () => leave(close, changed, `${user.name} may sign in again.`),
    }) }, "Lift the ban");
  }
  return h("button", { type: "button", class: "quiet", onclick: () => ask({
    title: `Ban ${user.name}?`, text: "All sessions end, and signing in is refused.", action: "Ban", danger: true,
    fields: [
      field({ name: "reason", label: "Reason (optional)", id: "ban-reason", maxlength: 200 }),
      field({ name: "days", label: "For", id: "ban-days", options: [["", "An unlimited time"], ["1", "One day"], ["7", "One week"], ["30", "30 days"]], value: "" }),
    ],
    run: ({ reason, days }) => post("/api/auth/admin/ban-user", {
      userId: user.id, ...(reason.trim() && { banReason: reason.trim() }), ...(days && { banExpiresIn: Number(days) * DAYS }),
    }),
    done: () => leave(close, changed, `${user.name} is banned.`),
  }) }, "Ban");
}

function removePerson(user, close, changed) {
  ask({
    title: `Remove ${user.name}?`, text: "The account, its sessions and its tokens are deleted. This cannot be undone.", action: "Remove", danger: true,
    run: () => post("/api/auth/admin/remove-user", { userId: user.id }), done: () => leave(close, changed, `${user.name} was removed.`),
  });
}

/** Close the dialog of a person, whom it no longer describes, and say what was done. */
async function leave(close, changed, text) {
  close();
  await changed(text);
}
