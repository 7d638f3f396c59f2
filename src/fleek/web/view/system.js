import { h, swap } from "../lib/dom.js";
import { api, raw } from "../lib/api.js";
import { bytes } from "../lib/bytes.js";
import { count, now, seconds, some, when } from "../lib/format.js";
import { fact } from "./fact.js";
import { operatorPauses, providerPauses } from "./pauses.js";
import { inWords, state } from "./state.js";
import { trouble } from "./toast.js";

async function health() {
  try { return await (await raw("health/detailed")).json(); } catch (error) {
    if (error.status === 503) return state();
    throw error;
  }
}

// One provider: whether it is asked at present, if that may be known, and its pace.
function providerLine(name, pause, ended) {
  const said = [pause?.seconds && `paused for ${seconds(pause.seconds)}: ${pause.reason}`, ...(pause?.open ?? []).map((model) => `circuit of ${model} is open`)].filter(Boolean);
  return h("li", {}, h("span", { class: `dot ${said.length ? "degraded" : pause ? "healthy" : ""}` }), h("b", { class: "check-name" }, name), h("span", { class: said.length ? "sp warn small" : "sp soft small" }, said.join("; ") || (pause ? "not paused" : "")),
    ended && h("span", { class: "num" }, `${count(ended.jobs)} ended`), ended && ended.median_seconds !== null && h("span", { class: "soft num" }, `median ${seconds(ended.median_seconds)}`));
}
// One process that works: what it is, since when, when it was last heard of.
const workerLine = (one) => h("li", {}, h("span", { class: "dot healthy" }), h("b", { class: "check-name num", title: `Worker ${one.id}` }, one.id.slice(-8)),
  h("span", { class: "sp" }, [one.here ? "API and worker" : "worker", one.coordinator && "coordinator"].filter(Boolean).join(", "), h("span", { class: "soft small" }, ` Fleek ${one.version}, since ${when(one.started_at)}`)),
  h("span", { class: "num" }, `${count(one.jobs)} of ${some(one.slots, "slot")} in use`), h("span", { class: "soft small num" }, `seen ${seconds(Math.max(0, (now() - Date.parse(one.heartbeat_at)) / 1000))} ago`));
const allowed = (asked) => asked.catch((error) => { if (error.status === 403) return null; throw error; });
const stopLine = ({ provider, model, since }) => h("li", {}, h("span", { class: "dot degraded" }), h("b", { class: "sp" }, [provider, model].filter(Boolean).join(" · ") || "All jobs"), h("span", { class: "soft small" }, `paused by an operator since ${when(since)}`));

export function systemPage(me) {
  const checks = h("ul", { class: "lines card" }), facts = h("div", { class: "facts" }), word = h("p", { class: "status" }), models = h("div", {}), workers = h("div", {});
  async function load() {
    try {
      const found = await health();
      swap(word, h("span", { class: `dot ${found.status}` }), inWords(found.status), h("span", { class: "soft small" }, found.version && `Fleek ${found.version}`));
      swap(checks, Object.entries(found.checks ?? {}).map(([name, check]) => h("li", {}, h("span", { class: `dot ${check.status === "warning" ? "degraded" : check.status}` }), h("b", { class: "check-name" }, name),
        h("span", { class: "sp" }, check.message, check.advice && h("p", { class: "warn small" }, check.advice)), h("span", { class: "small soft" }, check.status))));
      swap(workers, found.workers?.length && h("section", { class: "stack" }, h("h2", {}, "Workers"), h("ul", { class: "lines card" }, found.workers.map(workerLine))));
    } catch (error) { swap(checks, h("li", {}, trouble(error, load))); }
    try {
      const stats = await api("stats", { tries: 0 }), ended = stats.by_status ?? {};
      swap(facts, fact(count(ended.completed?.jobs ?? 0), "completed within an hour"), fact(count(ended.failed?.jobs ?? 0), "failed"), fact(stats.ended.median_seconds === null ? "–" : seconds(stats.ended.median_seconds), "median duration"),
        fact(count(stats.workers), stats.workers === 1 ? "worker" : "workers"), fact(count(stats.pending), "waiting"), fact(bytes(stats.bytes), "stored within an hour"),
        stats.cost !== undefined && stats.cost !== null && fact(String(stats.cost.amount ?? stats.cost), "spent within an hour"));
      const paces = stats.by_provider ?? {}, pauses = await allowed(providerPauses()), stopped = await operatorPauses(me);
      const names = [...new Set([...Object.keys(paces), ...Object.keys(pauses ?? {})])].sort();
      swap(models, names.length + stopped.length > 0 && h("section", { class: "stack" }, h("h2", {}, "Providers, last hour"), h("ul", { class: "lines card" }, stopped.map(stopLine), names.map((name) => providerLine(name, pauses && (pauses[name] ?? { open: [] }), paces[name])))));
    } catch (error) { if (error.status) swap(facts, trouble(error, load)); }
  }
  const timer = setInterval(() => { if (!document.hidden) load(); }, 5000);
  load();
  const who = me && h("section", { class: "stack" }, h("h2", {}, "You"), h("p", { class: "soft" }, `Tenant ${me.tenant}${me.key ? `, key ${me.key}` : ", without a key"}. You may: ${me.scopes.join(", ")}.`));
  return { el: h("div", { class: "narrow" }, h("div", { class: "head" }, h("h1", {}, "System"), h("span", { class: "sp" }), h("a", { class: "second", href: "#/access" }, "Keys and webhooks")), word, facts, h("section", { class: "stack" }, h("h2", {}, "Parts"), checks), workers, models, who,
    h("p", { class: "soft small" }, h("a", { href: "docs" }, "API"), " · ", h("a", { href: "redoc" }, "Reference"), " · ", h("a", { href: "metrics" }, "Metrics"), " · ", h("a", { href: "openapi.json" }, "OpenAPI"))), stop: () => clearInterval(timer) };
}
