import { call, element, errorsOf, onSubmit, showErrors } from "./gateway.js";

const form = element("sign-in");

function show(id, title) {
  for (const part of ["needs-setup", "signed-in", "sign-in"]) element(part).hidden = part !== id;
  element("title").textContent = title;
}

function welcome({ session, user }) {
  element("who").textContent = user.name;
  element("address").textContent = user.email;
  element("role").textContent = user.role ?? "user";
  element("until").textContent = new Date(session.expiresAt).toLocaleString();
  show("signed-in", `Hello, ${user.name}`);
}

async function refresh() {
  const found = await call("GET", "/api/auth/get-session");
  if (found.status !== 200) {
    show("", "Not just now");
    showErrors(form, { "": found.body?.message ?? "The gateway does not answer." });
    return;
  }
  if (found.body) return welcome(found.body);
  const state = await call("GET", "/api/bootstrap/status");
  if (state.body?.needsSetup) show("needs-setup", "Almost there");
  else show("sign-in", "Sign in");
}

onSubmit(form, async ({ email, password, rememberMe }) => {
  showErrors(form, {});
  const { status, body } = await call("POST", "/api/auth/sign-in/email", { email: email.trim(), password, rememberMe: Boolean(rememberMe) });
  if (status !== 200) return showErrors(form, errorsOf(body));
  form.reset();
  await refresh();
});

element("sign-out").addEventListener("click", async () => {
  await call("POST", "/api/auth/sign-out");
  await refresh();
});

await refresh();
