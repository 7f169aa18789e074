// Services: what a person may open through this gateway's sign-in.

import { get } from "./api.js";
import { announce, h } from "./dom.js";
import { formNotice } from "./forms.js";

const isWebAddress = (url) => /^https?:\/\//.test(url);

export async function servicesView(body) {
  const notice = formNotice();
  body.append(notice);
  const answer = await get("/api/console/services");
  if (!answer.ok) return announce(notice, answer.errors[""]);
  const services = answer.body.services.filter(({ url }) => isWebAddress(url));
  if (!services.length) {
    body.append(h("section", { class: "panel" }, h("p", {}, "No services are connected to this gateway yet."),
      h("p", { class: "soft" }, "When an administrator connects one, a link to it appears here.")));
    return;
  }
  body.append(serviceList(services));
}

/** Return the tiles of *services*. */
export const serviceList = (services) => h("ul", { class: "tiles services" }, services.map(({ name, url }) =>
  h("li", {}, h("a", { href: url }, h("strong", {}, name), h("span", { class: "soft" }, new URL(url).host)))));
