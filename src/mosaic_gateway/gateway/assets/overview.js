// Overview: the state of the gateway, for admins.

import { get } from "./api.js";
import { dayChart } from "./chart.js";
import { announce, bytes, counted, duration, h, moment } from "./dom.js";
import { formNotice } from "./forms.js";
import { serviceList } from "./services.js";

const ENGINES = { postgres: "embedded", pglite: "PGlite", server: "on a server" };

const tile = (name, value, more) => h("div", {}, h("dt", {}, name), h("dd", {}, h("strong", {}, value), more && h("span", { class: "soft" }, more)));

export async function overviewView(body) {
  const notice = formNotice();
  body.append(notice);
  const [answer, services] = await Promise.all([get("/api/console/overview"), get("/api/console/services")]);
  if (!answer.ok) return announce(notice, answer.errors[""]);
  const facts = answer.body;
  body.append(attention(facts.notes), tiles(facts), signIns(facts.signIns), doctor(facts.doctor));
  if (services.ok && services.body.services.length) {
    body.append(h("section", { class: "panel" }, h("h2", {}, "Services"), serviceList(services.body.services)));
  }
}

function attention(notes) {
  if (!notes.length) return h("p", { class: "verdict good" }, "Everything that the gateway can check itself is in order.");
  return h("section", { class: "panel attention" },
    h("h2", {}, notes.length === 1 ? "One thing needs attention" : `${notes.length} things need attention`),
    h("ul", {}, notes.map(({ text, command }) => h("li", {}, text, " ", h("code", {}, command)))));
}

function tiles(facts) {
  const { backup, disk, schema, database } = facts;
  return h("dl", { class: "tiles" },
    tile("Version", facts.version, `running for ${duration(facts.uptime)}`),
    tile("Database", `PostgreSQL ${database.version}`, ENGINES[facts.engine] ?? facts.engine),
    tile("Schema", `${schema.applied} of ${schema.of}`, schema.applied === schema.of ? "migrations, complete" : "migrations"),
    tile("Size", bytes(database.size), disk && `${bytes(disk.free)} free on the disk`),
    tile("Last backup", backup ? moment(backup.createdAt) : "None", backup && (backup.verifiedAt ? "verified" : "not verified")),
    tile("Fleet", facts.gateways === 1 ? "1 gateway" : `${facts.gateways} gateways`, facts.gateways === 1 ? "this one" : "on this database"));
}

function signIns({ days, complete }) {
  const heading = h("h2", {}, "Sign-ins a day");
  if (complete && !days.some(({ count }) => count)) return h("section", { class: "panel" }, heading, h("p", { class: "soft" }, `No sign-ins in the last ${days.length} days.`));
  return h("section", { class: "panel" }, heading, dayChart(days, "sign-ins"),
    !complete && h("p", { class: "soft" }, "There is more activity than is counted here: the oldest days are too low."));
}

function doctor(record) {
  const heading = h("h2", {}, "Doctor");
  if (!record) {
    return h("section", { class: "panel" }, heading, h("p", {}, "Not run yet. It checks the whole installation, on the machine of the gateway:"),
      h("pre", { tabindex: "0" }, h("code", {}, "mosaic-gateway doctor")));
  }
  const open = record.findings.filter(({ level }) => level === "fault" || level === "warning");
  const passed = record.findings.filter(({ level }) => level === "ok").length;
  return h("section", { class: "panel" }, heading,
    h("p", { class: "soft" }, "Last run ", moment(record.ranAt), `: ${counted(passed, "check", "checks")} passed${open.length ? `, ${open.length} did not.` : "."}`),
    open.length > 0 && h("ul", { class: "findings" }, open.map(({ level, check, message, hint }) =>
      h("li", {}, h("span", { class: `tag ${level}` }, level), h("div", {}, h("strong", {}, check), ": ", message, hint && h("p", { class: "soft" }, hint))))));
}
