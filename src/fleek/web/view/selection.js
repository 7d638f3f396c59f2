// The jobs that are selected in the wall, and what can be done with them.
import { h, icon, swap } from "../lib/dom.js";
import { post } from "../lib/api.js";
import { confirm } from "../lib/confirm.js";
import { count, some } from "../lib/format.js";
import { save } from "../lib/save.js";
import { jobs } from "../lib/store.js";
import { tellProblem, toast } from "./toast.js";

const el = h("div", { class: "select-bar card", hidden: true, role: "group", "aria-label": "Selected jobs" });
const chosen = new Set();
let around = null, between = null, last = null;

function draw() {
  around.classList.toggle("selecting", chosen.size > 0);
  el.hidden = chosen.size === 0;
  swap(el, h("b", { class: "num" }, `${count(chosen.size)} selected`),
    h("button", { type: "button", class: "text", onclick: download }, icon("save"), "Download"),
    h("button", { type: "button", class: "text danger", onclick: purge }, icon("trash"), `Delete ${count(chosen.size)}`),
    h("button", { type: "button", class: "text", onclick: clear }, "Clear"));
}

// With `range`, all from the one that was pressed before to this one.
function select(id, on, range = false) {
  for (const one of range && last ? between(last, id) : [id]) {
    if (on) chosen.add(one);
    else chosen.delete(one);
  }
  last = id;
  if (range) for (const tile of around.querySelectorAll(".tile[data-job]")) tile.querySelector(".pick input").checked = chosen.has(tile.dataset.job);
  draw();
}

function clear() {
  for (const box of around.querySelectorAll(".pick input")) box.checked = false;
  chosen.clear();
  draw();
}

async function download() {
  for (const id of chosen) {
    const one = jobs.get(id);
    for (const output of one?.outputs ?? []) await save(one, output.index).catch(tellProblem);
  }
}

async function purge() {
  const ids = [...chosen];
  if (!await confirm(`Delete the files of ${some(ids.length, "job")}? What was asked for stays in the list.`, `Delete ${some(ids.length, "job")}`)) return;
  try {
    for (let at = 0; at < ids.length; at += 100) await post("jobs/purge", { ids: ids.slice(at, at + 100) });
    toast(`${some(ids.length, "job")} will be deleted`);
    clear();
  } catch (error) { tellProblem(error); }
}

export const selection = { el, chosen, select, within: (section, range) => { around = section; between = range; } };
