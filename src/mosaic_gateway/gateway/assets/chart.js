// A plot of a number for each day, as SVG. Its labels are text beside it, so that they keep their size on any screen.

import { h, svg, table } from "./dom.js";

const STEPS = [1, 1.2, 1.4, 1.6, 2, 3, 4, 5, 6, 8, 10];
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", timeZone: "UTC" });

const dayName = (day) => DAY.format(new Date(`${day}T00:00:00Z`));

/** Return the smallest round number that is at least *number*. */
export function ceiling(number) {
  const power = 10 ** Math.floor(Math.log10(Math.max(number, 1)));
  return Math.round(STEPS.map((step) => step * power).find((step) => step >= number - 1e-9));
}

/** Return a figure with a bar for each of *days* ({day, count}), and the same numbers as a table. */
export function dayChart(days, what) {
  const top = ceiling(Math.max(1, ...days.map(({ count }) => count)));
  const bars = days.map(({ day, count }, index) => svg("g", {},
    svg("title", {}, `${dayName(day)}: ${count}`),
    svg("rect", { x: index, y: 0, width: 1, height: 100, class: "hover" }),
    count > 0 && svg("rect", { x: index + 0.15, y: 100 - 100 * count / top, width: 0.7, height: 100 * count / top, class: "bar" })));
  const lines = [0, 50, 100].map((y) => svg("line", { x1: 0, x2: days.length, y1: y, y2: y, class: "grid" }));
  const total = days.reduce((sum, { count }) => sum + count, 0);
  const [first, middle, last] = [days[0], days[Math.floor(days.length / 2)], days.at(-1)].map(({ day }) => dayName(day));
  const label = `${total} ${what} from ${first} to ${last}`;
  return h("figure", { class: "chart" },
    h("div", { class: "plot", role: "img", "aria-label": label },
      h("div", { class: "scale" }, h("span", {}, String(top)), h("span", {}, top % 2 ? "" : String(top / 2)), h("span", {}, "0")),
      svg("svg", { viewBox: `0 0 ${days.length} 100`, preserveAspectRatio: "none", "aria-hidden": "true" }, lines, bars),
      h("div", { class: "axis" }, h("span", {}, first), h("span", {}, middle), h("span", {}, last))),
    h("details", {}, h("summary", {}, "As a table"), dayTable(days.filter(({ count }) => count > 0), what)));
}

function dayTable(days, what) {
  if (!days.length) return h("p", { class: "soft" }, `No ${what}.`);
  return table(["Day (UTC)", "Number"], days.map(({ day, count }) => [dayName(day), String(count)]), "numbers");
}
