// Forms: fields with labels and errors, submission, the button that shows a password, and dialogs.

import { announce, h } from "./dom.js";

/** Return a field for a form that a module creates: label, input or select, hint, and the element of its error. */
export function field({ name, label, hint, options, value, id = name, ...attributes }) {
  const described = hint ? `${id}-hint ${id}-error` : `${id}-error`;
  const shared = { id, name, "aria-describedby": described, ...attributes };
  const input = options
    ? h("select", shared, options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)))
    : h("input", { type: "text", ...shared, value });
  return h("div", { class: "field" },
    h("label", { for: id }, label),
    input,
    hint && h("p", { class: "hint", id: `${id}-hint` }, hint),
    h("p", { class: "error", id: `${id}-error`, "data-field": name, "aria-live": "polite" }));
}

/** Return a check box with its *label*, a text or a list of contents. */
export const checkbox = (name, label, checked = false) =>
  h("label", { class: "check" }, h("input", { type: "checkbox", name, checked }), h("span", {}, label));

/** Return the live region of a form's own errors. */
export const formNotice = () => h("div", { class: "notice", role: "alert" });

/** Display *errors* (field name → text, "" for the form itself) and focus the first field with an error, else *focus*. */
export function showErrors(form, errors, focus) {
  const shown = new Set();
  let first = null;
  for (const output of form.querySelectorAll(".error")) {
    const name = output.dataset.field;
    const text = errors[name] ?? "";
    output.textContent = text;
    form.elements[name].setAttribute("aria-invalid", String(Boolean(text)));
    shown.add(name);
    if (text && !first) first = form.elements[name];
  }
  const rest = Object.entries(errors).filter(([name]) => !shown.has(name)).map(([, text]) => text);
  announce(form.querySelector("[role=alert]"), rest.join(" "));
  first ??= rest.length && focus ? form.elements[focus] : null;
  first?.focus();
  if (first?.select && rest.length) first.select();
}

/** Call *handler* with the fields of *form* on submit; the button is disabled until it returns. */
export function onSubmit(form, handler) {
  const button = form.querySelector("button[type=submit]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    try { await handler(Object.fromEntries(new FormData(form))); } finally { button.disabled = false; }
  });
  for (const input of form.querySelectorAll("input[type=password]")) addShowButton(input);
  return form;
}

function addShowButton(input) {
  const button = h("button", { type: "button", class: "show", "aria-pressed": "false", "aria-label": "Show password", "aria-controls": input.id }, "Show");
  button.addEventListener("click", () => {
    const shown = input.type === "password";
    input.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", String(shown));
    button.textContent = shown ? "Hide" : "Show";
    button.setAttribute("aria-label", shown ? "Hide password" : "Show password");
    input.focus();
  });
  const row = h("div", { class: "with-button" });
  input.replaceWith(row);
  row.append(input, button);
}

/** Return the errors of a new password and its repetition. */
export function passwordErrors({ password, repeat }, name = "password") {
  if (!password) return { [name]: "Choose a password." };
  if (password.length < 8) return { [name]: "Use at least 8 characters." };
  return password === repeat ? {} : { repeat: "The two passwords differ." };
}

/** Rename fields of *errors*, such as "newPassword" of the API to "password" of the form. */
export const renamed = (errors, names) =>
  Object.fromEntries(Object.entries(errors).map(([name, text]) => [names[name] ?? name, text]));

let dialogs = 0;

/** Open a modal dialog with *children*; it is removed when it closes, and focus returns to where it was. It hides one below. */
export function openDialog(title, ...children) {
  const id = `dialog-${dialogs += 1}`;
  const dialog = h("dialog", { "aria-labelledby": id },
    h("header", {}, h("h2", { id }, title), h("button", { type: "button", class: "quiet small", onclick: () => dialog.close() }, "Close")),
    h("div", { class: "notice", role: "status" }), ...children);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Ask in a dialog before *run*(fields), which returns the result of `call`; it stays open while there are errors. After it
 * has closed, *done*(body of the result, fields) is called.
 */
export function ask({ title, text, action, danger = false, fields = [], names = {}, run, done }) {
  const form = h("form", { novalidate: true },
    text && h("p", { class: "intro" }, text), formNotice(), ...fields,
    h("div", { class: "buttons" }, h("button", { type: "submit", class: danger ? "danger" : "" }, action)));
  const dialog = openDialog(title, form);
  onSubmit(form, async (values) => {
    showErrors(form, {});
    const { ok, body, errors } = await run(values);
    if (!ok) return showErrors(form, renamed(errors, names));
    dialog.close();
    await done?.(body, values);
  });
}
