// The console: who is signed in, which views this person has, and the view of the present path.

import { SIGNED_OUT, get, post } from "./api.js";
import { accountView } from "./account.js";
import { activityView } from "./activity.js";
import { element, h } from "./dom.js";
import { overviewView } from "./overview.js";
import { peopleView } from "./people.js";
import { servicesView } from "./services.js";
import { onSignIn, returnTarget, showEntry } from "./sign_in.js";

const VIEWS = [
  { path: "/", title: "Overview", view: overviewView, admin: true },
  { path: "/", title: "Services", view: servicesView, admin: false },
  { path: "/people", title: "People", view: peopleView, admin: true },
  { path: "/activity", title: "Activity", view: activityView, admin: true },
  { path: "/account", title: "My account", view: accountView },
];

let current = null;

const isAdmin = (user) => (user.role ?? "").split(",").includes("admin");

const viewsOf = (user) => VIEWS.filter(({ admin }) => admin === undefined || admin === isAdmin(user));

/** Display the console for the session and user of get-session. */
async function enter(session) {
  current = session;
  element("who").textContent = session.user.name;
  element("views").replaceChildren(...viewsOf(session.user).map(({ path, title }) =>
    h("li", {}, h("a", { href: path, onclick: (event) => navigate(event, path) }, title))));
  element("entry").hidden = true;
  element("console").hidden = false;
  await route();
  await offerReturn();
}

/** Link to the service that sent this browser here although it is signed in: going there by itself could be a loop. */
async function offerReturn() {
  const target = await returnTarget();
  if (target) element("view").prepend(h("p", { class: "verdict plain" }, h("a", { href: target }, `Continue to ${new URL(target).host}`)));
}

function navigate(event, path) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  if (path !== location.pathname) history.pushState(null, "", path);
  route();
}

/** Display the view of the path; a path that this person does not have leads to the first view. */
async function route() {
  if (!current) return;
  const views = viewsOf(current.user);
  const chosen = views.find(({ path }) => path === location.pathname) ?? views[0];
  for (const link of element("views").querySelectorAll("a")) {
    if (link.getAttribute("href") === chosen.path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${chosen.title} · mosaic-gateway`;
  const heading = h("h1", { tabindex: "-1" }, chosen.title);
  const body = h("div", { class: "body", "aria-busy": "true" });
  element("view").replaceChildren(heading, body);
  heading.focus({ preventScroll: true });
  scrollTo(0, 0);
  await chosen.view(body, { ...current, refresh });
  body.removeAttribute("aria-busy");
}

/** Ask who is signed in, after a change of the account. */
async function refresh() {
  const { ok, body } = await get("/api/auth/get-session");
  if (!ok || !body) return leave();
  current = body;
  element("who").textContent = body.user.name;
}

async function leave(text) {
  current = null;
  for (const dialog of document.querySelectorAll("dialog")) dialog.close();
  element("view").replaceChildren();
  await showEntry(text);
}

element("sign-out").addEventListener("click", async () => {
  await post("/api/auth/sign-out");
  await leave();
});
addEventListener(SIGNED_OUT, () => { if (current) leave("Your session has ended. Sign in again."); });
addEventListener("popstate", route);
onSignIn(enter);

const { ok, body } = await get("/api/auth/get-session");
if (ok && body) await enter(body);
else await showEntry();
