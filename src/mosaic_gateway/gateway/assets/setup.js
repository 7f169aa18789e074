// The page on which the first admin is created.

import { call } from "./api.js";
import { announce, element } from "./dom.js";
import { onSubmit, passwordErrors, showErrors } from "./forms.js";
import { forgetToken, linkToken } from "./link_token.js";

const form = element("setup");
const token = linkToken("setup-token");
const LINK = "Create a new link on the machine that runs the gateway: mosaic-gateway bootstrap link";
const STATES = {
  used: "The first admin has been created already, so this link is used up. Sign in on the start page.",
  expired: `This link has expired: it was valid for 24 hours. ${LINK}`,
  replaced: `This link is not valid: a newer one has replaced it, or it was not copied completely. ${LINK}`,
};

/** Display why there is nothing to fill in, and the way to the start page if that helps. */
function refuse(text, signIn = false) {
  forgetToken("setup-token");
  form.hidden = true;
  element("intro").hidden = true;
  element("start").hidden = !signIn;
  announce(element("notice"), text);
}

function missingFields({ name, email, ...passwords }) {
  const errors = {};
  if (!name.trim()) errors.name = "Enter a name.";
  if (!email.trim()) errors.email = "Enter an e-mail address.";
  return { ...errors, ...passwordErrors(passwords) };
}

onSubmit(form, async (values) => {
  const missing = missingFields(values);
  showErrors(form, missing);
  if (Object.keys(missing).length) return;
  const { name, email, password } = values;
  const { ok, body, errors } = await call("POST", "/api/bootstrap/setup", { name, email: email.trim(), password }, { "x-setup-token": token });
  if (ok) {
    forgetToken("setup-token");
    location.replace("/");
  } else if (body?.code === "ADMIN_EXISTS") refuse(STATES.used, true);
  else if (body?.code === "SETUP_TOKEN_INVALID") refuse(STATES.replaced);
  else showErrors(form, errors);
});

const link = await call("POST", "/api/bootstrap/link", undefined, token ? { "x-setup-token": token } : {});
if (!link.ok) {
  announce(element("notice"), link.errors[""]);
} else if (link.body.state === "valid") {
  element("intro").hidden = form.hidden = false;
  form.elements.name.focus();
} else if (link.body.state !== "used" && !token) refuse(`This page needs the set-up link. ${LINK}`);
else refuse(STATES[link.body.state], link.body.state === "used");
