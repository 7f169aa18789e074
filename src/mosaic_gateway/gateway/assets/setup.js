import { call, element, errorsOf, onSubmit, showErrors } from "./gateway.js";

const form = element("setup");
let token = "";

/** Take the token out of the address, so that it stays in no history and no screenshot. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return;
  token = given;
  history.replaceState(null, "", location.pathname);
}

function stop(text) {
  form.hidden = true;
  element("intro").hidden = true;
  showErrors(form, { "": text });
}

const LINK = "Ask for a new link on the machine that runs the gateway: mosaic-gateway bootstrap link";

takeToken();
addEventListener("hashchange", () => location.reload());
const state = await call("GET", "/api/bootstrap/status");
if (state.status === 200 && !state.body.needsSetup) location.replace("/");
else if (!token) stop(`This page needs the set-up link. ${LINK}`);

onSubmit(form, async ({ name, email, password, repeat }) => {
  const errors = {};
  if (!name.trim()) errors.name = "Give a name.";
  if (!email.trim()) errors.email = "Give an e-mail address.";
  if (!password) errors.password = "Choose a password.";
  else if (password !== repeat) errors.repeat = "The two passwords differ.";
  showErrors(form, errors);
  if (Object.keys(errors).length) return;
  const { status, body } = await call("POST", "/api/bootstrap/setup", { name, email: email.trim(), password }, { "x-setup-token": token });
  if (status === 201) location.replace("/");
  else if (body?.code === "ADMIN_EXISTS") stop("Somebody has made the first admin already. Sign in on the start page.");
  else if (body?.code === "SETUP_TOKEN_INVALID") stop(`The set-up link is no longer valid. ${LINK}`);
  else showErrors(form, errorsOf(body));
});
