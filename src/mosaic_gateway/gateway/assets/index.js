import { call, element, errorsOf, onSubmit, showErrors } from "./gateway.js";

const form = element("sign-in");
const wanted = new URLSearchParams(location.search).get("return"); // the page of a service that asked for a sign-in

function show(id, title) {
  for (const part of ["needs-setup", "signed-in", "sign-in"]) element(part).hidden = part !== id;
  element("title").textContent = title;
}

function showUser({ session, user }) {
  element("who").textContent = user.name;
  element("address").textContent = user.email;
  element("role").textContent = user.role ?? "user";
  element("until").textContent = new Date(session.expiresAt).toLocaleString();
  show("signed-in", `Hello, ${user.name}`);
  showReturn();
}

/** Link to the wanted page, if the gateway trusts it. Going there by itself could be a loop. */
async function showReturn() {
  if (!wanted) return;
  const { body } = await call("GET", `/api/auth/forward/return?url=${encodeURIComponent(wanted)}`);
  element("return").hidden = !body?.url;
  if (!body?.url) return;
  element("return-link").href = body.url;
  element("return-link").textContent = `Continue to ${new URL(body.url).host}`;
}

async function refresh() {
  const current = await call("GET", "/api/auth/get-session");
  if (current.status !== 200) {
    show("", "Not available");
    showErrors(form, { "": current.body?.message ?? "The gateway does not answer." });
    return;
  }
  if (current.body) return showUser(current.body);
  const state = await call("GET", "/api/bootstrap/status");
  if (state.body?.needsSetup) show("needs-setup", "Set-up required");
  else show("sign-in", "Sign in");
}

onSubmit(form, async ({ email, password, rememberMe }) => {
  showErrors(form, {});
  const { status, body } = await call("POST", "/api/auth/sign-in/email", { email: email.trim(), password, rememberMe: Boolean(rememberMe), ...(wanted && { callbackURL: wanted }) });
  if (status !== 200) return showErrors(form, errorsOf(body));
  if (wanted && body.redirect) return location.assign(body.url);
  form.reset();
  await refresh();
});

element("sign-out").addEventListener("click", async () => {
  await call("POST", "/api/auth/sign-out");
  await refresh();
});

await refresh();
