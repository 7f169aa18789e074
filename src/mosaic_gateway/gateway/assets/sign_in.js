// The card in which a person signs in, and what it says if that is not possible.

import { call, get } from "./api.js";
import { announce, element } from "./dom.js";
import { onSubmit, showErrors } from "./forms.js";

const form = element("sign-in");

/** Display the part *id* of the card ("" for none) under *title*. */
function show(id, title) {
  for (const part of ["needs-setup", "sign-in"]) element(part).hidden = part !== id;
  element("title").textContent = title;
  document.title = `${title} · mosaic-gateway`;
  element("console").hidden = true;
  element("entry").hidden = false;
}

/** Display what a visitor who is not signed in can do; *text* says why he is here, if it is not obvious. */
export async function showEntry(text = "") {
  announce(element("notice"), "");
  const { ok, body, errors } = await get("/api/bootstrap/status");
  if (!ok) {
    show("", "Not available");
    announce(element("notice"), errors[""] ?? "The gateway does not answer.");
  } else if (body.needsSetup) show("needs-setup", "Set-up required");
  else {
    show("sign-in", "Sign in");
    announce(element("notice"), text, "plain");
    (form.elements.email.value ? form.elements.password : form.elements.email).focus();
  }
}

/** Return the page of a service that asked for a sign-in, if the gateway trusts its address; else null. */
export async function returnTarget() {
  const wanted = new URLSearchParams(location.search).get("return");
  if (!wanted) return null;
  const { body } = await get("/api/auth/forward/return", { url: wanted });
  return body?.url ?? null;
}

/** Call *done*(session and user) after a sign-in. */
export function onSignIn(done) {
  onSubmit(form, async ({ email, password, rememberMe }) => {
    announce(element("notice"), "");
    const missing = {};
    if (!email.trim()) missing.email = "Enter your e-mail address.";
    if (!password) missing.password = "Enter your password.";
    showErrors(form, missing);
    if (Object.keys(missing).length) return;
    const credentials = { email: email.trim(), password, rememberMe: Boolean(rememberMe) };
    const { ok, errors } = await call("POST", "/api/auth/sign-in/email", credentials);
    if (!ok) return showErrors(form, errors, "password");
    const current = await get("/api/auth/get-session");
    if (!current.ok) return showErrors(form, current.errors);
    if (!current.body) return showErrors(form, { "": cookieDropped() });
    form.reset();
    const target = await returnTarget();
    if (target) location.assign(target);
    else await done(current.body);
  });
}

/** Say why the browser sends no session cookie right after a sign-in. */
function cookieDropped() {
  if (location.protocol === "http:") {
    return `The password is right, but the browser refused the session cookie: the gateway is set up for https, and this page was opened over http. Open it at its https address, or correct base_url: mosaic-gateway config set base_url ${location.origin}`;
  }
  return "The password is right, but the browser refused the session cookie. Allow cookies for this address.";
}
