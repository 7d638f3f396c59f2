// Whether all is well: parts, workers, providers, who one is.
import { h, swap } from "../lib/dom.js";
import { api, raw } from "../lib/api.js";
import { bytes } from "../lib/bytes.js";
import { count, now, seconds, some, when } from "../lib/format.js";
import { dot, fact, page, section } from "./page.js";
import { operatorPauses, providerPauses, stopWords } from "./pauses.js";
import { inWords, state } from "./state.js";
import { trouble } from "./toast.js";

async function health() {
  try { return await (await raw("health/detailed")).json(); } catch (error) {
    if (error.status === 503) return state();
    throw error;
  }
}

const list = (title, lines) => lines.length > 0 && section(title, h("ul.lines.card", lines));
const checkLine = ([name, { status, message, advice }]) => h("li", dot(status === "warning" ? "degraded" : status), h("b.check-name", name),
  h("span.sp", message, advice && h("p.warn.small", advice)), h("span.small.soft", status));

// One provider: whether it is asked at present, if that may be known, and its pace.
function providerLine(name, pause, ended) {
  const said = [pause?.seconds && `paused for ${seconds(pause.seconds)}: ${pause.reason}`, ...(pause?.open ?? []).map((model) => `circuit of ${model} is open`)].filter(Boolean);
  return h("li", dot(said.length ? "degraded" : pause ? "healthy" : ""), h("b.check-name", name), h("span", { class: said.length ? "sp warn small" : "sp soft small" }, said.join("; ") || (pause ? "not paused" : "")),
    ended && h("span.num", `${count(ended.jobs)} ended`), ended && ended.median_seconds !== null && h("span.soft.num", `median ${seconds(ended.median_seconds)}`));
}
// One process that works: what it is, since when, when it was last heard of.
const workerLine = (one) => h("li", dot("healthy"), h("b.check-name.num", { title: `Worker ${one.id}` }, one.id.slice(-8)),
  h("span.sp", [one.here ? "API and worker" : "worker", one.coordinator && "coordinator"].filter(Boolean).join(", "), h("span.soft.small", ` Fleek ${one.version}, since ${when(one.started_at)}`)),
  h("span.num", `${count(one.jobs)} of ${some(one.slots, "slot")} in use`), h("span.soft.small.num", `seen ${seconds((now() - Date.parse(one.heartbeat_at)) / 1000)} ago`));
const stopLine = (one) => h("li", dot("degraded"), h("span.sp", stopWords(one)));
const allowed = (asked) => asked.catch((error) => { if (error.status === 403) return null; throw error; });

export function systemPage(me) {
  const word = h("p.status"), facts = h("div.facts"), parts = h("div"), workers = h("div"), providers = h("div");
  async function load() {
    try {
      const found = await health();
      swap(word, dot(found.status), inWords(found.status), found.version && h("span.soft.small", `Fleek ${found.version}`));
      swap(parts, list("Parts", Object.entries(found.checks ?? {}).map(checkLine)));
      swap(workers, list("Workers", (found.workers ?? []).map(workerLine)));
    } catch (error) { swap(parts, trouble(error, load)); }
    try {
      const stats = await api("stats", { tries: 0 }), ended = stats.by_status ?? {}, cost = stats.cost?.amount ?? stats.cost;
      swap(facts, fact(count(ended.completed?.jobs ?? 0), "completed within an hour"), fact(count(ended.failed?.jobs ?? 0), "failed"), fact(seconds(stats.ended.median_seconds) || "–", "median duration"),
        fact(count(stats.workers), stats.workers === 1 ? "worker" : "workers"), fact(count(stats.pending), "waiting"), fact(bytes(stats.bytes), "stored within an hour"),
        cost !== undefined && cost !== null && fact(String(cost), "spent within an hour"));
      const paces = stats.by_provider ?? {}, pauses = await allowed(providerPauses()), stopped = await operatorPauses(me);
      const names = [...new Set([...Object.keys(paces), ...Object.keys(pauses ?? {})])].sort();
      swap(providers, list("Providers, last hour", [...stopped.map(stopLine), ...names.map((name) => providerLine(name, pauses && (pauses[name] ?? { open: [] }), paces[name]))]));
    } catch (error) { if (error.status) swap(facts, trouble(error, load)); }
  }
  const timer = setInterval(() => { if (!document.hidden) load(); }, 5000);
  load();
  const links = [["docs", "API"], ["redoc", "Reference"], ["metrics", "Metrics"], ["openapi.json", "OpenAPI"]].map(([href, words], at) => [at > 0 && " · ", h("a", { href }, words)]);
  return { stop: () => clearInterval(timer), el: page("System", h("a.second", { href: "#/access" }, "Keys and webhooks"), word, facts, parts, workers, providers,
    me && section("You", h("p.soft", `Tenant ${me.tenant}${me.key ? `, key ${me.key}` : ", without a key"}. You may: ${me.scopes.join(", ")}.`)), h("p.soft.small", links)) };
}
