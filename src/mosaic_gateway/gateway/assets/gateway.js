// What both pages share: calls to the API, and errors shown beside their fields.

export const element = (id) => document.getElementById(id);

/** Send a request and return its status and parsed body; a gateway that does not answer is status 0. */
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

/** Show errors: a map from field to text, "" for the notice on top. Moves the focus to the first field. */
export function showErrors(form, errors) {
  const notice = element("notice");
  notice.textContent = errors[""] ?? "";
  notice.hidden = !errors[""];
  let first = null;
  for (const place of form.querySelectorAll(".error")) {
    const field = form.elements[place.id.replace(/-error$/, "")];
    const text = errors[field.name] ?? "";
    place.textContent = text;
    field.setAttribute("aria-invalid", String(Boolean(text)));
    if (text && !first) first = field;
  }
  if (first) first.focus();
}

const FIELD_OF = {
  INVALID_EMAIL: ["email", "This is not an e-mail address that the gateway accepts."],
  PASSWORD_TOO_SHORT: ["password", "Use at least 8 characters."],
  PASSWORD_TOO_LONG: ["password", "Use at most 128 characters."],
  USER_EXISTS: ["email", "Another user has this address already."],
};

/** Turn the API's error body into errors for `showErrors`. */
export function errorsOf(body) {
  if (!body) return { "": "The gateway gave an answer that this page does not understand." };
  const known = FIELD_OF[body.code];
  if (known) return { [known[0]]: known[1] };
  const errors = {};
  for (const [, field, text] of (body.message ?? "").matchAll(/\[body\.(\w+)\] (?:Invalid input: )?([^;]+)/g)) errors[field] = text;
  return Object.keys(errors).length ? errors : { "": body.message ?? "Something went wrong." };
}

/** Run *work* when *form* is sent, once at a time. */
export function onSubmit(form, work) {
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try { await work(Object.fromEntries(new FormData(form))); } finally { button.disabled = false; }
  });
}
