// Keys, and where webhooks are sent.
import { dialog, h, icon, iconButton, labelled, swap } from "../lib/dom.js";
import { api, post } from "../lib/api.js";
import { confirm } from "../lib/confirm.js";
import { when } from "../lib/format.js";
import { copy } from "./copy.js";
import { dot, page, section } from "./page.js";
import { attempt, trouble } from "./toast.js";

const part = (title, path, draw, add) => {
  const list = h("ul.lines.card");
  const load = async () => {
    try {
      const all = await api(path);
      swap(list, all.length ? all.map((one) => h("li", draw(one, load))) : h("li.soft", "None yet."));
    } catch (error) { swap(list, h("li", error.status === 403 ? `This needs a key with another scope: ${error.message}` : trouble(error, load))); }
  };
  load();
  return h("section.stack", h("div.row", h("h2.sp", title), add && h("button.second", { onclick: () => add(load) }, icon("plus"), "New")), list);
};
const button = (words, work, load) => h("button.text", { onclick: () => attempt(work, load) }, words);
const askedFirst = (question, answer, path, load) => async () => {
  if (await confirm(question, answer)) attempt(() => api(path, { method: "DELETE" }), load);
};

// A dialog that creates something; `send()` returns its secret, which is shown once.
function create(title, fields, send, load, [secretTitle, note]) {
  const box = dialog(title, h("form.stack", { onsubmit: (event) => {
    event.preventDefault();
    attempt(async () => {
      const secret = await send();
      box.close();
      dialog(secretTitle, [h("p.note.warn", note), h("pre.block", { tabindex: 0 }, secret), h("button.second", { onclick: (pressed) => copy(secret, pressed.currentTarget) }, "Copy")]);
    }, load);
  } }, fields, h("button.primary", { type: "submit" }, "Create")));
}

function keyLine(one, load) {
  const over = one.revoked_at ?? (Date.parse(one.expires_at) < Date.now() ? one.expires_at : null);
  const used = over ? `ended ${when(over)}` : one.last_used_at ? `used ${when(one.last_used_at)}` : "never used";
  return [dot(over ? "" : "enabled"), h("span.sp", h("b", h("bdi", one.name)), h("span.mono.soft", ` ${one.prefix}…`), h("p.small.soft", `${one.tenant} · ${one.scopes.join(", ")} · ${used}`)),
    !over && h("button.text.danger", { "aria-label": `Revoke ${one.name}`, onclick: askedFirst(`Revoke the key ${one.name}? Whoever uses it is refused from then on.`, "Revoke", `keys/${one.id}`, load) }, "Revoke")];
}

const SCOPES = ["jobs:read", "jobs:write", "media:read", "webhooks:read", "webhooks:write", "usage:read", "metrics:read", "admin"];
function newKey(load) {
  const name = h("input", { id: "key-name", required: true, maxlength: 64, pattern: "[a-z0-9][a-z0-9._\\-]*" }), boxes = SCOPES.map((scope) => h("input", { type: "checkbox", value: scope, checked: scope !== "admin" }));
  create("New key", [labelled("Name", name), h("fieldset.stack", h("legend.label", "It may"), boxes.map((one) => h("label.row.small", one, one.value)))],
    async () => (await post("keys", { name: name.value, scopes: boxes.filter((one) => one.checked).map((one) => one.value) })).key, load,
    ["The new key", "It is shown this once, and stored nowhere."]);
}

function endpointLine(one, load) {
  const here = `webhooks/endpoints/${one.id}`;
  return [dot(one.enabled ? "enabled" : "failed"), h("span.sp", h("b", h("bdi", one.url)), h("p.small.soft", [one.description, one.events.join(", ")].filter(Boolean).join(" · ")),
    one.failing_since && h("p.small.warn", `fails since ${when(one.failing_since)}`), one.disabled_reason && h("p.small.danger", `disabled: ${one.disabled_reason}`)),
  button("Test", () => post(`${here}/test`), load),
  button(one.enabled ? "Disable" : "Enable", () => api(here, { method: "PATCH", json: { enabled: !one.enabled } }), load),
  iconButton("trash", `Delete ${one.url}`, askedFirst(`Delete the endpoint ${one.url}?`, "Delete", here, load))];
}

function newEndpoint(load) {
  const url = h("input", { id: "hook-url", type: "url", required: true, placeholder: "https://…" }), words = h("input", { id: "hook-words", maxlength: 500 });
  create("New endpoint", [labelled("Address", url), labelled("Description", words)], async () => (await post("webhooks/endpoints", { url: url.value, description: words.value })).secret, load,
    ["The signing secret", "It is not shown again. Webhooks are signed with it."]);
}

const deliveryLine = (one, load) => [dot(one.state === "delivered" ? "completed" : one.state === "failed" ? "failed" : "pending"),
  h("span.sp", h("b", one.type), ` ${one.receiver ?? ""}`, h("p.small.soft", [one.state, `${one.attempts} attempts`, when(one.created_at), one.last_reason].filter(Boolean).join(" · "))),
  one.job_id && h("a.text", { href: `#/jobs/${one.job_id}` }, "Job"), button("Send again", () => post(`webhooks/deliveries/${one.id}/replay`), load)];

export const accessPage = (me) => page("Keys and webhooks", null,
  me?.scopes.includes("admin") ? part("Keys", "keys", keyLine, newKey)
    : section("Keys", h("p.note", "Keys are created with ", h("code", "fleek keys create NAME"), ", or here with a key that has the scope admin.")),
  part("Endpoints", "webhooks/endpoints", endpointLine, newEndpoint), part("Latest deliveries", "webhooks/deliveries?limit=20", deliveryLine));
