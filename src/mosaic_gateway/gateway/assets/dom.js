// Creation of elements, and times and sizes as text. Data gets into the page as text only, never as HTML.

export const element = (id) => document.getElementById(id);

/** Create an element: functions become event listeners ("onclick"), booleans bare attributes, the rest attributes. */
export const h = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);

/** The same for SVG. */
export const svg = (tag, attributes = {}, ...children) =>
  build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") node.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/**
 * Create a table with the head *columns*; a row is a list of contents. Narrow screens display rows as blocks, for which
 * browsers drop the meaning of a table: the roles restore it. A column without a name has no head, and is aligned right.
 */
export const table = (columns, rows, kind = "stack") => h("table", { class: kind, role: "table" },
  h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((name) =>
    h("th", { scope: "col", role: "columnheader" }, name || h("span", { class: "hidden-label" }, "Actions"))))),
  h("tbody", { role: "rowgroup" }, rows.map((cells) => tableRow(columns, cells))));

export const tableRow = (columns, cells) => h("tr", { role: "row" }, cells.map((content, index) =>
  h("td", { role: "cell", "data-label": columns[index], class: columns[index] ? "" : "actions" }, content)));

/** Put *text* into the live region *region*, which exists already; "" empties it. */
export function announce(region, text, kind = "bad") {
  region.className = text ? `notice ${kind}` : "notice";
  region.textContent = text;
}

let clearing;

/** Display *text* and have screen readers read it: in the uppermost dialog, else at the bottom of the page for some seconds. */
export function report(text) {
  const inDialog = [...document.querySelectorAll("dialog[open] > [role=status]")].at(-1);
  if (inDialog) return announce(inDialog, text, "good");
  clearTimeout(clearing);
  element("status").textContent = text;
  clearing = setTimeout(() => { element("status").textContent = ""; }, 6000);
}

const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];
const RELATIVE = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

/** Return the distance of a time from now: "3 days ago", "in 2 hours". */
export function distance(iso) {
  const seconds = (new Date(iso) - Date.now()) / 1000;
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  return length === 1 ? "just now" : RELATIVE.format(Math.trunc(seconds / length), unit);
}

/** Return a number with its noun: "1 entry", "2 entries". */
export const counted = (number, one, many) => `${number} ${number === 1 ? one : many}`;

/** Return a length of time in its two largest units: "3 d 4 h". */
export function duration(seconds) {
  const parts = [[Math.floor(seconds / 86400), "d"], [Math.floor(seconds / 3600) % 24, "h"], [Math.floor(seconds / 60) % 60, "min"]];
  const first = parts.findIndex(([number]) => number > 0);
  return first < 0 ? "less than a minute" : parts.slice(first, first + 2).map(([number, unit]) => `${number} ${unit}`).join(" ");
}

const DATE = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "numeric", minute: "2-digit", timeZoneName: "short" });

/** Return date and time in the browser's zone, with its name. */
export const dateText = (iso) => DATE.format(new Date(iso));

/** Return a <time> that displays the distance or, with *exact*, date and time; the other is its tool tip. */
export function moment(iso, exact = false) {
  const date = dateText(iso);
  return h("time", { datetime: iso, title: exact ? distance(iso) : date }, exact ? date : distance(iso));
}

/** Return a number of bytes as text: "57.7 MB". */
export function bytes(number) {
  const unit = ["bytes", "kB", "MB", "GB", "TB"].findIndex((_, power, all) => number < 1000 ** (power + 1) || power === all.length - 1);
  const value = number / 1000 ** unit;
  return `${value.toFixed(unit && value < 100 ? 1 : 0)} ${["bytes", "kB", "MB", "GB", "TB"][unit]}`;
}

/** Return a browser and its system in words from a User-Agent header. */
export function browserName(agent) {
  const name = [["Edg/", "Edge"], ["OPR/", "Opera"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"], ["Safari/", "Safari"], ["curl/", "curl"]].find(([mark]) => agent?.includes(mark));
  const system = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Windows", "Windows"], ["Mac OS", "macOS"], ["Linux", "Linux"]].find(([mark]) => agent?.includes(mark));
  if (!name) return agent ? agent.slice(0, 40) : "Unknown browser";
  return system ? `${name[1]} on ${system[1]}` : name[1];
}
