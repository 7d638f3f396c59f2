import { h, swap } from "../lib/dom.js";
import { api, post } from "../lib/api.js";
import { confirm } from "../lib/confirm.js";
import { count, seconds, some } from "../lib/format.js";
import { subscribe } from "../lib/store.js";
import { fact } from "./fact.js";
import { loadLive, liveList } from "./live.js";
import { tellProblem, toast, trouble } from "./toast.js";

export function queuePage() {
  const list = liveList({ most: 200, always: true, title: "Unfinished", more: false });
  const facts = h("div", { class: "facts" }), action = h("button", { type: "button", class: "second danger", hidden: true, onclick: cancelAll });
  let waiting = 0, stopped = false;

  async function load() {
    try {
      const stats = await api("stats", { tries: 0 });
      waiting = stats.pending;
      swap(facts, fact(count(stats.processing), "running"), fact(count(stats.pending), "waiting"), fact(stats.oldest_pending_seconds === null ? "–" : seconds(stats.oldest_pending_seconds), "the oldest waits"),
        fact(count(stats.workers), stats.workers === 1 ? "worker" : "workers"), fact(count(stats.by_status?.failed?.jobs ?? 0), "failed within an hour"));
    } catch (error) {
      if (error.status) swap(facts, trouble(error, load));
    }
    action.hidden = waiting === 0;
    action.textContent = `Cancel all waiting (${count(waiting)})`;
  }
  async function cancelAll() {
    const named = some(waiting, "waiting job");
    if (!await confirm(`Cancel ${named}? This cannot be undone.`, `Cancel ${named}`)) return;
    try {
      await post("jobs/cancel", { filter: { status: ["pending"] } });
      toast(`${named} will be cancelled`);
      setTimeout(() => loadLive().catch(() => {}), 1500);
    } catch (error) { tellProblem(error); }
  }
  const timer = setInterval(() => { if (!document.hidden && !stopped) load(); }, 5000);
  let soon = 0;
  const end = subscribe(() => { clearTimeout(soon); soon = setTimeout(load, 500); });
  load();
  return { el: h("div", { class: "narrow" }, h("div", { class: "head" }, h("h1", {}, "Queue"), h("span", { class: "sp" }), action), facts, list.el), stop: () => { stopped = true; clearInterval(timer); clearTimeout(soon); end(); list.stop(); } };
}
