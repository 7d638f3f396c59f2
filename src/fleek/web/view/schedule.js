// When a job runs, and before which others.
import { h, labelled } from "../lib/dom.js";

const local = (time) => (time ? new Date(Date.parse(time) - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 16) : "");

export function jobFields(job, changed) {
  function set(name, value) {
    if (value === undefined) delete job[name];
    else job[name] = value;
    changed();
  }
  const priority = h("input", { type: "number", id: "job-priority", min: 0, max: 9, placeholder: "5", value: job.priority ?? "", oninput: () => set("priority", priority.value === "" ? undefined : Number(priority.value)) });
  const start = h("input", { type: "datetime-local", id: "job-start", value: local(job.run_at), oninput: () => set("run_at", start.value ? new Date(start.value).toISOString() : undefined) });
  return h("div.two", labelled("Priority (0-9)", priority),
    labelled("Not before", start));
}
