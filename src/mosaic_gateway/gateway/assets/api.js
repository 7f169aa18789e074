// Requests to the gateway, and its errors in plain words.

/** Raised as an event on `window` when the session has ended. */
export const SIGNED_OUT = "mosaic-signed-out";

/** Send a request; return `ok`, `status`, the parsed `body`, and `errors` as `showErrors` of forms.js takes them. */
export async function call(method, path, body, headers = {}) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
  } catch {
    return { ok: false, status: 0, body: null, errors: { "": "The gateway does not answer. Is it running, and is this device connected?" } };
  }
  const answer = await response.json().catch(() => null);
  const { ok, status } = response;
  if (status === 401 && answer?.code !== "INVALID_EMAIL_OR_PASSWORD") dispatchEvent(new Event(SIGNED_OUT));
  return { ok, status, body: answer, errors: ok ? {} : explain(status, answer, response.headers) };
}

export const get = (path, query = {}) => {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return call("GET", given.length ? `${path}?${new URLSearchParams(given)}` : path);
};

export const post = (path, body = {}) => call("POST", path, body);

/** Error code → the field that it is about ("" for the form) and the text. */
const TEXTS = {
  INVALID_EMAIL: ["email", "Enter a valid e-mail address, like name@example.com."],
  INVALID_EMAIL_OR_PASSWORD: ["", "The e-mail address or the password is wrong."],
  INVALID_PASSWORD: ["password", "The password is wrong."],
  PASSWORD_TOO_SHORT: ["password", "Use at least 8 characters."],
  PASSWORD_TOO_LONG: ["password", "Use at most 128 characters."],
  USER_EXISTS: ["email", "Another person already has this e-mail address."],
  USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL: ["email", "Another person already has this e-mail address."],
  YOU_ARE_NOT_ALLOWED_TO_SET_NON_EXISTENT_VALUE: ["role", "A role has letters, digits and _.:- only, begins with a letter or a digit, and has at most 64 characters."],
  BANNED_USER: ["", "This account is blocked. Ask an administrator of this gateway."],
  INVALID_TOKEN: ["", "This link is no longer valid. Ask an administrator for a new one."],
  SESSION_NOT_FRESH: ["", "Your sign-in is more than a day old. Sign out, sign in again, and repeat this."],
  FORBIDDEN: ["", "You do not have the permission to do this."],
  UNAUTHORIZED: ["", "Your session has ended. Sign in again."],
  PAYLOAD_TOO_LARGE: ["", "That is more text than the gateway accepts."],
  INTERNAL: ["", "Something went wrong in the gateway. Its log says what: mosaic-gateway logs"],
};

/** Convert the status and body of an error into texts: field name → text, "" for the form. Pure but for `location`. */
export function explain(status, body, headers = new Headers()) {
  if (body?.code === "INVALID_ORIGIN" || body?.code === "MISSING_OR_NULL_ORIGIN") {
    return { "": `The gateway does not accept requests from ${location.origin}. Open it at its own address, or have its administrator run: mosaic-gateway config set trusted_origins ${location.origin}` };
  }
  if (status === 429) return { "": `Too many attempts. Try again in ${seconds(headers)}.` };
  const known = TEXTS[body?.code];
  if (status === 503) return { "": `The gateway or its database is busy or starting. Try again in ${seconds(headers)}.` };
  if (known) return { [known[0]]: known[1] };
  const fields = {};
  for (const [, field, text] of (body?.message ?? "").matchAll(/\[(?:body|query)\.(\w+)\] (?:Invalid input: )?([^;]+)/g)) fields[field] = text;
  if (Object.keys(fields).length) return fields;
  if (body?.message) return { "": body.message };
  return { "": status === 404 ? "This gateway does not offer that." : `The gateway sent an unexpected response (${status}).` };
}

function seconds(headers) {
  const number = Math.ceil(Number(headers.get("x-retry-after") ?? headers.get("retry-after")));
  if (!(number > 0)) return "a few seconds";
  return number < 120 ? `${number} second${number === 1 ? "" : "s"}` : `${Math.ceil(number / 60)} minutes`;
}
