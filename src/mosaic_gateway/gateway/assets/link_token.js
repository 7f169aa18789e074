// The secret of a link: read from the fragment, which browsers do not send, and removed from the address bar.

/** Return the token of this page's link, also after a reload; "" if the page was opened without one. */
export function linkToken(name) {
  const value = new URLSearchParams(location.hash.slice(1)).get("token");
  if (value) {
    sessionStorage.setItem(name, value);
    history.replaceState(null, "", location.pathname);
  }
  addEventListener("hashchange", () => location.reload());
  return value ?? sessionStorage.getItem(name) ?? "";
}

export const forgetToken = (name) => sessionStorage.removeItem(name);
