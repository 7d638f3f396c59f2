// The jobs that are selected in the wall, and what can be done with them.
import { h, icon, swap } from "../lib/dom.js";
import { post } from "../lib/api.js";
import { confirm } from "../lib/confirm.js";
import { count, some } from "../lib/format.js";
import { jobs } from "../lib/store.js";
import { save } from "./save.js";
import { tellProblem, toast } from "./toast.js";

// Returns what selects a job: `select(id, on, range)`; with `range`, all that `between(one, other)` names from the one before.
export function selection(around, chosen, between) {
  const bar = h("div.select-bar.card", { role: "group", "aria-label": "Selected jobs" });
  let last = null;

  function draw() {
    around.classList.toggle("selecting", chosen.size > 0);
    bar.hidden = chosen.size === 0;
    for (const tile of around.querySelectorAll(".tile[data-job]")) tile.querySelector(".pick input").checked = chosen.has(tile.dataset.job);
    swap(bar, h("b.num", `${count(chosen.size)} selected`),
      h("button.text", { onclick: download }, icon("save"), "Download"),
      h("button.text.danger", { onclick: purge }, icon("trash"), `Delete ${count(chosen.size)}`),
      h("button.text", { onclick: clear }, "Clear"));
  }

  function clear() {
    chosen.clear();
    draw();
  }

  async function download() {
    for (const id of chosen) for (const output of jobs.get(id)?.outputs ?? []) await save(jobs.get(id), output.index);
  }

  async function purge() {
    const ids = [...chosen], named = some(ids.length, "job");
    if (!await confirm(`Delete the files of ${named}? What was asked for stays in the list.`, `Delete ${named}`)) return;
    try {
      for (let at = 0; at < ids.length; at += 100) await post("jobs/purge", { ids: ids.slice(at, at + 100) });
      toast(`${named} will be deleted`);
      clear();
    } catch (error) { tellProblem(error); }
  }

  around.append(bar);
  return (id, on, range) => {
    for (const one of range && last ? between(last, id) : [id]) chosen[on ? "add" : "delete"](one);
    last = id;
    draw();
  };
}
