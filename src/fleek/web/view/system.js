import { h, swap } from "../lib/dom.js";
import { api, raw } from "../lib/api.js";
import { bytes, count, seconds } from "../lib/format.js";
import { fact } from "./fact.js";
import { inWords, state } from "./state.js";
import { trouble } from "./toast.js";

async function health() {
  try { return await (await raw("health/detailed")).json(); } catch (error) {
    if (error.status === 503) return state();
    throw error;
  }
}

export function systemPage(me) {
  const checks = h("ul", { class: "lines card" }), facts = h("div", { class: "facts" }), word = h("p", { class: "status" }), models = h("div", {});
  async function load() {
    try {
      const found = await health();
      swap(word, h("span", { class: `dot ${found.status}` }), inWords(found.status), h("span", { class: "soft small" }, found.version && `Fleek ${found.version}`));
      swap(checks, Object.entries(found.checks ?? {}).map(([name, check]) => h("li", {}, h("span", { class: `dot ${check.status}` }), h("b", { class: "check-name" }, name),
        h("span", { class: "sp" }, check.message, check.advice && h("p", { class: "warn small" }, check.advice)), h("span", { class: "small soft" }, check.status))));
    } catch (error) { swap(checks, h("li", {}, trouble(error, load))); }
    try {
      const stats = await api("stats", { tries: 0 }), ended = stats.by_status ?? {};
      swap(facts, fact(count(ended.completed?.jobs ?? 0), "completed within an hour"), fact(count(ended.failed?.jobs ?? 0), "failed"), fact(stats.ended.median_seconds === null ? "–" : seconds(stats.ended.median_seconds), "median duration"),
        fact(count(stats.workers), stats.workers === 1 ? "worker" : "workers"), fact(count(stats.pending), "waiting"), fact(bytes(stats.bytes), "stored within an hour"),
        stats.cost !== undefined && stats.cost !== null && fact(String(stats.cost.amount ?? stats.cost), "spent within an hour"));
      const lines = Object.entries(stats.by_provider ?? {}).map(([name, one]) => h("li", {}, h("b", { class: "sp" }, name), h("span", { class: "num" }, `${count(one.jobs)} ended`), h("span", { class: "soft num" }, one.median_seconds === null ? "" : `median ${seconds(one.median_seconds)}`)));
      swap(models, lines.length > 0 && h("section", {}, h("h2", {}, "Providers, last hour"), h("ul", { class: "lines card" }, lines)));
    } catch (error) { if (error.status) swap(facts, trouble(error, load)); }
  }
  const timer = setInterval(() => { if (!document.hidden) load(); }, 5000);
  load();
  const who = me && h("section", { class: "stack" }, h("h2", {}, "You"), h("p", { class: "soft" }, `Tenant ${me.tenant}${me.key ? `, key ${me.key}` : ", without a key"}. You may: ${me.scopes.join(", ")}.`));
  return { el: h("div", { class: "narrow" }, h("div", { class: "head" }, h("h1", {}, "System"), h("span", { class: "sp" }), h("a", { class: "second", href: "#/access" }, "Keys and webhooks")), word, facts, h("section", { class: "stack" }, h("h2", {}, "Parts"), checks), models, who,
    h("p", { class: "soft small" }, h("a", { href: "docs" }, "API"), " · ", h("a", { href: "redoc" }, "Reference"), " · ", h("a", { href: "metrics" }, "Metrics"), " · ", h("a", { href: "openapi.json" }, "OpenAPI"))), stop: () => clearInterval(timer) };
}
