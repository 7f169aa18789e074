// The page of a reset link, on which a person chooses a new password.

import { call, post } from "./api.js";
import { announce, element } from "./dom.js";
import { onSubmit, passwordErrors, renamed, showErrors } from "./forms.js";
import { forgetToken, linkToken } from "./link_token.js";

const form = element("reset");
const token = linkToken("reset-token");
const INVALID = "This link is not valid: it was used already, has expired, or was not copied completely. Ask an administrator for a new one.";

function finish(text, kind) {
  forgetToken("reset-token");
  form.hidden = true;
  element("start").hidden = false;
  announce(element("notice"), text, kind);
}

onSubmit(form, async (values) => {
  const missing = passwordErrors(values);
  showErrors(form, missing);
  if (Object.keys(missing).length) return;
  const { ok, body, errors } = await post("/api/auth/reset-password", { newPassword: values.password, token });
  if (ok) finish("Your new password is set. You can sign in with it now.", "good");
  else if (body?.code === "INVALID_TOKEN") finish(INVALID, "bad");
  else showErrors(form, renamed(errors, { newPassword: "password" }));
});

const link = token ? await call("POST", "/api/console/reset-link", { token }) : null;
if (!link) finish("This page needs a reset link. Ask an administrator for one.", "bad");
else if (link.ok && !link.body.valid) finish(INVALID, "bad");
else {
  form.hidden = false;
  form.elements.password.focus();
}
