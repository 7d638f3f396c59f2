// What waits and runs, and what an operator can do about it.
import { h, swap } from "../lib/dom.js";
import { api, post } from "../lib/api.js";
import { confirm } from "../lib/confirm.js";
import { count, seconds, some } from "../lib/format.js";
import { subscribe } from "../lib/store.js";
import { loadLive, liveList } from "./live.js";
import { fact, page } from "./page.js";
import { operatorPauses, stopWords } from "./pauses.js";
import { attempt, toast, trouble } from "./toast.js";

export function queuePage(me) {
  const list = liveList({ most: 200, always: true, title: "Unfinished", more: false });
  const facts = h("div.facts"), stops = h("div.stack"), pause = h("span.row");
  const action = h("button.second.danger", { hidden: true, onclick: cancelAll });
  let waiting = 0;

  async function load() {
    try {
      const stats = await api("stats", { tries: 0 });
      waiting = stats.pending;
      swap(facts, fact(count(stats.processing), "running"), fact(count(stats.pending), "waiting"), fact(seconds(stats.oldest_pending_seconds) || "–", "the oldest waits"),
        fact(count(stats.workers), stats.workers === 1 ? "worker" : "workers"), fact(count(stats.by_status?.failed?.jobs ?? 0), "failed within an hour"));
    } catch (error) {
      if (error.status) swap(facts, trouble(error, load));
    }
    action.hidden = waiting === 0;
    action.textContent = `Cancel all waiting (${count(waiting)})`;
    if (me?.scopes.includes("admin")) drawPauses(await operatorPauses(me).catch(() => []));
  }
  function drawPauses(paused) {
    const whole = paused.some((one) => !one.provider && !one.model);
    swap(stops, paused.map((one) => h("p.note.warn", `${stopWords(one)}. Jobs are accepted, and wait.`)));
    swap(pause, h("button.second", { onclick: () => attempt(() => post(`queue/${whole ? "resume" : "pause"}`, {}), load) }, whole ? "Resume the queue" : "Pause the queue"));
  }
  async function cancelAll() {
    const named = some(waiting, "waiting job");
    if (!await confirm(`Cancel ${named}? This cannot be undone.`, `Cancel ${named}`)) return;
    attempt(() => post("jobs/cancel", { filter: { status: ["pending"] } }), () => {
      toast(`${named} will be cancelled`);
      setTimeout(() => loadLive().catch(() => {}), 1500);
    });
  }
  const timer = setInterval(() => { if (!document.hidden) load(); }, 5000);
  let soon = 0;
  const end = subscribe(() => { clearTimeout(soon); soon = setTimeout(load, 500); });
  load();
  return { el: page("Queue", [pause, action], stops, facts, list.el), stop: () => { clearInterval(timer); clearTimeout(soon); end(); list.stop(); } };
}
