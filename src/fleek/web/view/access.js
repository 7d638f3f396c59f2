// Keys, and where webhooks are sent.
import { dialog, h, icon, iconButton, swap } from "../lib/dom.js";
import { api, post } from "../lib/api.js";
import { confirm } from "../lib/confirm.js";
import { when } from "../lib/format.js";
import { copy } from "./copy.js";
import { tellProblem, trouble } from "./toast.js";

const field = (id, label, control) => h("div", {}, h("label", { class: "label", for: id }, label), h("div", { class: "field-box" }, control));

function secret(title, text, note) {
  dialog(title, [h("h2", {}, title), h("p", { class: "note warn" }, note), h("pre", { class: "block", tabindex: 0 }, text), h("button", { type: "button", class: "second", onclick: (event) => copy(text, event.currentTarget) }, "Copy")]);
}

const part = (title, path, draw, add) => {
  const list = h("ul", { class: "lines card" });
  const load = async () => {
    try {
      const all = await api(path);
      swap(list, all.length ? all.map((one) => draw(one, load)) : h("li", { class: "soft" }, "None yet."));
    } catch (error) { swap(list, h("li", {}, error.status === 403 ? `This needs a key with another scope: ${error.message}` : trouble(error, load))); }
  };
  load();
  return h("section", { class: "stack" }, h("div", { class: "row" }, h("h2", { class: "sp" }, title), add && h("button", { type: "button", class: "second", onclick: () => add(load) }, icon("plus"), "New")), list);
};

async function attempt(work, load) {
  try { await work(); load(); } catch (error) { tellProblem(error); }
}

function keyLine(one, load) {
  const over = one.revoked_at ?? (one.expires_at && Date.parse(one.expires_at) < Date.now() ? one.expires_at : null);
  return h("li", {}, h("span", { class: `dot ${over ? "" : "enabled"}` }), h("span", { class: "sp" }, h("b", {}, h("bdi", {}, one.name)), h("span", { class: "mono soft" }, ` ${one.prefix}…`), h("p", { class: "small soft" }, `${one.tenant} · ${one.scopes.join(", ")} · ${over ? `ended ${when(over)}` : one.last_used_at ? `used ${when(one.last_used_at)}` : "never used"}`)),
    !over && h("button", { type: "button", class: "text danger", "aria-label": `Revoke ${one.name}`, onclick: async () => { if (await confirm(`Revoke the key ${one.name}? Whoever uses it is refused from then on.`, "Revoke")) attempt(() => api(`keys/${one.id}`, { method: "DELETE" }), load); } }, "Revoke"));
}

const SCOPES = ["jobs:read", "jobs:write", "media:read", "webhooks:read", "webhooks:write", "usage:read", "metrics:read", "admin"];
function newKey(load) {
  const name = h("input", { id: "key-name", required: true, maxlength: 64, pattern: "[a-z0-9][a-z0-9._\\-]*" }), boxes = SCOPES.map((scope) => h("input", { type: "checkbox", value: scope, checked: scope !== "admin" }));
  const box = dialog("New key", h("form", { class: "stack", onsubmit: (event) => {
    event.preventDefault();
    attempt(async () => {
      const made = await post("keys", { name: name.value, scopes: boxes.filter((one) => one.checked).map((one) => one.value) });
      box.close();
      secret("The new key", made.key, "It is shown this once, and stored nowhere.");
    }, load);
  } }, h("h2", {}, "New key"), field("key-name", "Name", name), h("fieldset", { class: "stack" }, h("legend", { class: "label" }, "It may"), boxes.map((one) => h("label", { class: "row small" }, one, one.value))), h("button", { class: "primary" }, "Create")));
}

function endpointLine(one, load) {
  const here = `webhooks/endpoints/${one.id}`;
  return h("li", {}, h("span", { class: `dot ${one.enabled ? "enabled" : "failed"}` }), h("span", { class: "sp" }, h("b", {}, h("bdi", {}, one.url)), h("p", { class: "small soft" }, `${one.description ? `${one.description} · ` : ""}${one.events.join(", ")}`), one.failing_since && h("p", { class: "small warn" }, `fails since ${when(one.failing_since)}`), one.disabled_reason && h("p", { class: "small danger" }, `disabled: ${one.disabled_reason}`)),
    h("button", { type: "button", class: "text", onclick: () => attempt(() => post(`${here}/test`), load) }, "Test"),
    h("button", { type: "button", class: "text", onclick: () => attempt(() => api(here, { method: "PATCH", json: { enabled: !one.enabled } }), load) }, one.enabled ? "Disable" : "Enable"),
    iconButton("trash", `Delete ${one.url}`, async () => { if (await confirm(`Delete the endpoint ${one.url}?`, "Delete")) attempt(() => api(here, { method: "DELETE" }), load); }));
}

function newEndpoint(load) {
  const url = h("input", { id: "hook-url", type: "url", required: true, placeholder: "https://…" }), words = h("input", { id: "hook-words", maxlength: 500 });
  const box = dialog("New endpoint", h("form", { class: "stack", onsubmit: (event) => {
    event.preventDefault();
    attempt(async () => {
      const made = await post("webhooks/endpoints", { url: url.value, description: words.value });
      box.close();
      secret("The signing secret", made.secret, "It is not shown again. Webhooks are signed with it.");
    }, load);
  } }, h("h2", {}, "New endpoint"), field("hook-url", "Address", url), field("hook-words", "Description", words), h("button", { class: "primary" }, "Create")));
}

function deliveryLine(one, load) {
  return h("li", {}, h("span", { class: `dot ${{ delivered: "completed", failed: "failed", pending: "pending" }[one.state] ?? "pending"}` }), h("span", { class: "sp" }, h("b", {}, one.type), ` ${one.receiver ?? ""}`, h("p", { class: "small soft" }, `${one.state} · ${one.attempts} attempts · ${when(one.created_at)}${one.last_reason ? ` · ${one.last_reason}` : ""}`)),
    one.job_id && h("a", { class: "text", href: `#/jobs/${one.job_id}` }, "Job"), h("button", { type: "button", class: "text", onclick: () => attempt(() => post(`webhooks/deliveries/${one.id}/replay`), load) }, "Send again"));
}

export function accessPage(me) {
  const admin = me?.scopes.includes("admin");
  return h("div", { class: "narrow" }, h("div", { class: "head" }, h("h1", {}, "Keys and webhooks")),
    admin ? part("Keys", "keys", keyLine, newKey) : h("section", { class: "stack" }, h("h2", {}, "Keys"), h("p", { class: "note" }, "Keys are created with ", h("code", {}, "fleek keys create NAME"), ", or here with a key that has the scope admin.")),
    part("Endpoints", "webhooks/endpoints", endpointLine, newEndpoint), part("Latest deliveries", "webhooks/deliveries?limit=20", deliveryLine));
}
