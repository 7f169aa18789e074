// Shared by both pages: API requests and the display of errors beside their fields.

export const element = (id) => document.getElementById(id);

/** Send a request and return its status and parsed body; status 0 if the gateway does not answer. */
export async function call(method, path, body, headers = {}) {
  try {
    const response = await fetch(path, {
      method,
      headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
    return { status: response.status, body: await response.json().catch(() => null) };
  } catch {
    return { status: 0, body: { code: "UNREACHABLE", message: "The gateway does not answer. Is it running?" } };
  }
}

/** Display *errors* (field name → text; "" is the notice on top) and focus the first field with an error. */
export function showErrors(form, errors) {
  const notice = element("notice");
  notice.textContent = errors[""] ?? "";
  notice.hidden = !errors[""];
  let first = null;
  for (const output of form.querySelectorAll(".error")) {
    const field = form.elements[output.id.replace(/-error$/, "")];
    const text = errors[field.name] ?? "";
    output.textContent = text;
    field.setAttribute("aria-invalid", String(Boolean(text)));
    if (text && !first) first = field;
  }
  if (first) first.focus();
}

const FIELD_OF = {
  INVALID_EMAIL: ["email", "Enter a valid e-mail address."],
  PASSWORD_TOO_SHORT: ["password", "Use at least 8 characters."],
  PASSWORD_TOO_LONG: ["password", "Use at most 128 characters."],
  USER_EXISTS: ["email", "Another user already has this e-mail address."],
};

/** Convert the API's error body into errors for `showErrors`. */
export function errorsOf(body) {
  if (!body) return { "": "The gateway sent an unexpected response." };
  const known = FIELD_OF[body.code];
  if (known) return { [known[0]]: known[1] };
  const errors = {};
  for (const [, field, text] of (body.message ?? "").matchAll(/\[body\.(\w+)\] (?:Invalid input: )?([^;]+)/g)) errors[field] = text;
  return Object.keys(errors).length ? errors : { "": body.message ?? "Unknown error." };
}

/** Call *handler* with the fields of *form* on submit; the button is disabled until it returns. */
export function onSubmit(form, handler) {
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try { await handler(Object.fromEntries(new FormData(form))); } finally { button.disabled = false; }
  });
}
