// People: the users of this gateway, for admins; person.js has what can be done with one of them.

import { get, post } from "./api.js";
import { announce, counted, h, moment, report, table } from "./dom.js";
import { ask, field, formNotice } from "./forms.js";
import { openPerson, roleTags, stateTag } from "./person.js";

const ROWS = 20;

export async function peopleView(body, me) {
  const state = { search: "", offset: 0 };
  const notice = formNotice();
  const list = h("div", { class: "list" });
  const search = h("input", { id: "search", type: "search", name: "search", placeholder: "Name or e-mail", autocomplete: "off" });
  const form = h("form", { class: "toolbar", role: "search", novalidate: true },
    h("label", { for: "search", class: "hidden-label" }, "Search by name or e-mail"), search,
    h("button", { type: "submit", class: "quiet" }, "Search"),
    h("button", { type: "button", class: "end", onclick: () => createPerson(refresh) }, "Add a person"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    Object.assign(state, { search: search.value.trim(), offset: 0 });
    refresh();
  });
  body.append(form, notice, list);

  async function refresh() {
    const answer = await find(state);
    announce(notice, answer.ok ? "" : answer.errors[""]);
    if (answer.ok) list.replaceChildren(...page(answer.body));
  }

  function page({ users, total }) {
    if (!users.length) return [h("p", { class: "empty" }, state.search ? "No one matches this search." : "There is no one yet.")];
    const show = (offset) => { state.offset = offset; refresh(); };
    const people = peopleTable(users, me, refresh);
    if (total <= ROWS) return [people, h("p", { class: "pager soft", role: "status" }, counted(total, "person", "people"))];
    return [people, h("nav", { class: "pager", "aria-label": "Pages" },
      h("button", { type: "button", class: "quiet small", disabled: state.offset === 0, onclick: () => show(Math.max(0, state.offset - ROWS)) }, "Previous"),
      h("span", { class: "soft", role: "status" }, `${state.offset + 1} to ${state.offset + users.length} of ${total}`),
      h("button", { type: "button", class: "quiet small", disabled: state.offset + ROWS >= total, onclick: () => show(state.offset + ROWS) }, "Next"))];
  }

  await refresh();
}

/** Search names, then addresses, until there is a result: list-users searches one field, and distinguishes case. */
async function find({ search, offset }) {
  const query = { limit: ROWS, offset, sortBy: "createdAt", sortDirection: "desc" };
  if (!search) return get("/api/auth/admin/list-users", query);
  const capitals = search.replace(/(^|[\s-])\p{L}/gu, (letter) => letter.toUpperCase());
  const attempts = [["name", search], ["name", capitals], ["email", search.toLowerCase()]];
  let answer;
  for (const [searchField, searchValue] of search.includes("@") ? attempts.slice(2) : attempts) {
    answer = await get("/api/auth/admin/list-users", { ...query, searchValue, searchField, searchOperator: "contains" });
    if (!answer.ok || answer.body.total) break;
  }
  return answer;
}

function peopleTable(users, me, refresh) {
  return table(["Person", "Role", "State", "Since", ""], users.map((user) => [
    h("div", { class: "person" }, h("strong", {}, user.name), h("span", { class: "soft" }, user.email)),
    roleTags(user),
    stateTag(user),
    moment(user.createdAt),
    h("button", { type: "button", class: "quiet small", "aria-label": `Manage ${user.name}`, onclick: () => openPerson(user, me, refresh) }, "Manage"),
  ]));
}

function createPerson(refresh) {
  ask({
    title: "Add a person",
    text: "Give the password to the person, who can change it under My account.",
    action: "Add",
    fields: [
      field({ name: "name", label: "Name", id: "new-name", autocomplete: "off", maxlength: 200 }),
      field({ name: "email", label: "E-mail", id: "new-email", type: "email", autocomplete: "off" }),
      field({ name: "password", label: "Password", id: "new-password", type: "password", autocomplete: "new-password", hint: "8 to 128 characters." }),
      field({ name: "role", label: "Role", id: "new-role", options: [["user", "User: own account and services"], ["admin", "Admin: everything"]], value: "user" }),
    ],
    run: async ({ name, email, password, role }) => {
      const missing = {};
      if (!name.trim()) missing.name = "Enter a name.";
      if (!email.trim()) missing.email = "Enter an e-mail address.";
      if (password.length < 8) missing.password = "Use at least 8 characters.";
      if (Object.keys(missing).length) return { ok: false, errors: missing };
      return post("/api/auth/admin/create-user", { name: name.trim(), email: email.trim(), password, role });
    },
    done: async ({ user }) => {
      report(`${user.name} was added.`);
      await refresh();
    },
  });
}
