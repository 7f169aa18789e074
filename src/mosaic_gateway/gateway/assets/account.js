// My account: name, password, sessions, tokens, deletion.

import { get, post } from "./api.js";
import { announce, h, report } from "./dom.js";
import { ask, checkbox, field, formNotice, onSubmit, passwordErrors, renamed, showErrors } from "./forms.js";
import { sessionText } from "./person.js";
import { tokenSection } from "./tokens.js";

export async function accountView(body, me) {
  const [own, tokens] = await Promise.all([sessions(me), tokenSection(me)]);
  body.append(h("div", { class: "columns" }, h("div", {}, profile(me), password(me)), h("div", {}, own, tokens, deletion())));
}

function profile(me) {
  const form = h("form", { novalidate: true }, formNotice(),
    h("p", { class: "soft" }, "You sign in as ", h("strong", {}, me.user.email), "."),
    field({ name: "name", label: "Name", value: me.user.name, autocomplete: "name", maxlength: 200 }),
    h("div", { class: "buttons" }, h("button", { type: "submit" }, "Save")));
  onSubmit(form, async ({ name }) => {
    if (!name.trim()) return showErrors(form, { name: "Enter a name." });
    const { ok, errors } = await post("/api/auth/update-user", { name: name.trim() });
    showErrors(form, errors);
    if (!ok) return;
    report("Your name was saved.");
    await me.refresh();
  });
  return h("section", { class: "panel" }, h("h2", {}, "Profile"), form);
}

function password(me) {
  const form = h("form", { novalidate: true }, formNotice(),
    h("input", { name: "username", value: me.user.email, autocomplete: "username", hidden: true, readonly: true }),
    field({ name: "current", label: "Present password", type: "password", autocomplete: "current-password" }),
    field({ name: "password", label: "New password", id: "change-password", type: "password", autocomplete: "new-password", hint: "8 to 128 characters." }),
    field({ name: "repeat", label: "Repeat the new password", type: "password", autocomplete: "new-password" }),
    checkbox("others", "Sign out everywhere else", true),
    h("div", { class: "buttons" }, h("button", { type: "submit" }, "Change the password")));
  onSubmit(form, async (values) => {
    const missing = values.current ? passwordErrors(values) : { current: "Enter your present password." };
    showErrors(form, missing);
    if (Object.keys(missing).length) return;
    const { ok, body, errors } = await post("/api/auth/change-password", {
      currentPassword: values.current, newPassword: values.password, revokeOtherSessions: Boolean(values.others),
    });
    // The API names the new password "password" in its length errors, and the present one in INVALID_PASSWORD.
    const wrong = body?.code === "INVALID_PASSWORD" ? { current: errors.password } : renamed(errors, { newPassword: "password", currentPassword: "current" });
    showErrors(form, wrong);
    if (!ok) return;
    form.reset();
    report("The password was changed.");
  });
  return h("section", { class: "panel" }, h("h2", {}, "Password"), form);
}

async function sessions(me) {
  const notice = formNotice();
  const list = h("ul", { class: "rows" });
  const others = h("button", { type: "button", class: "quiet", onclick: () => end("revoke-other-sessions", {}, "You are signed out everywhere else.") }, "Sign out everywhere else");
  async function load() {
    const { ok, body, errors } = await get("/api/auth/list-sessions");
    if (!ok) return announce(notice, errors[""]);
    const isOwn = (session) => session.id === me.session.id;
    const sorted = [...body].sort((one, other) => isOwn(other) - isOwn(one) || other.createdAt.localeCompare(one.createdAt));
    list.replaceChildren(...sorted.map((session) => h("li", {}, sessionText(session, isOwn(session)), !isOwn(session) && h("button", {
      type: "button", class: "quiet small", onclick: () => end("revoke-session", { token: session.token }, "The session has ended."),
    }, "Sign out"))));
    others.hidden = sorted.length < 2;
  }
  async function end(path, body, text) {
    const { ok, errors } = await post(`/api/auth/${path}`, body);
    announce(notice, ok ? "" : errors[""]);
    if (!ok) return;
    report(text);
    await load();
  }
  await load();
  return h("section", { class: "panel" }, h("h2", {}, "Sessions"), notice, list, h("div", { class: "buttons" }, others));
}

function deletion() {
  return h("section", { class: "panel" }, h("h2", {}, "Delete my account"),
    h("p", { class: "soft" }, "Your account, its sessions and its tokens are deleted. This cannot be undone."),
    h("div", { class: "buttons" }, h("button", { type: "button", class: "danger", onclick: () => ask({
      title: "Delete your account?", text: "Enter your password to confirm.", action: "Delete my account", danger: true,
      fields: [field({ name: "password", label: "Password", id: "delete-password", type: "password", autocomplete: "current-password" })],
      run: async ({ password: confirmation }) => {
        if (!confirmation) return { ok: false, errors: { password: "Enter your password." } };
        const answer = await post("/api/auth/delete-user", { password: confirmation });
        if (answer.ok) location.replace("/");
        return answer;
      },
    }) }, "Delete my account …")));
}
