import { call, element, errorsOf, onSubmit, showErrors } from "./gateway.js";

const form = element("setup");
let token = "";

/** Read the token from the URL and remove it there, so that it stays out of the history and of screenshots. */
function readToken() {
  const value = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!value) return;
  token = value;
  history.replaceState(null, "", location.pathname);
}

function disable(text) {
  form.hidden = true;
  element("intro").hidden = true;
  showErrors(form, { "": text });
}

const LINK = "Create a new link on the machine that runs the gateway: mosaic-gateway bootstrap link";

readToken();
addEventListener("hashchange", () => location.reload());
const state = await call("GET", "/api/bootstrap/status");
if (state.status === 200 && !state.body.needsSetup) location.replace("/");
else if (!token) disable(`This page needs the set-up link. ${LINK}`);

onSubmit(form, async ({ name, email, password, repeat }) => {
  const errors = {};
  if (!name.trim()) errors.name = "Enter a name.";
  if (!email.trim()) errors.email = "Enter an e-mail address.";
  if (!password) errors.password = "Choose a password.";
  else if (password !== repeat) errors.repeat = "The two passwords differ.";
  showErrors(form, errors);
  if (Object.keys(errors).length) return;
  const { status, body } = await call("POST", "/api/bootstrap/setup", { name, email: email.trim(), password }, { "x-setup-token": token });
  if (status === 201) location.replace("/");
  else if (body?.code === "ADMIN_EXISTS") disable("The first admin has already been created. Sign in on the start page.");
  else if (body?.code === "SETUP_TOKEN_INVALID") disable(`The set-up link is no longer valid. ${LINK}`);
  else showErrors(form, errorsOf(body));
});
