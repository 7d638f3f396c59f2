// The history of a job, attempt by attempt.
import { h } from "../lib/dom.js";
import { at, seconds, when } from "../lib/format.js";

const WORDS = {
  "job.created": "Accepted", "job.started": "Started", "job.progress": "In progress", "job.retrying": "Will be tried again", "job.collecting": "Made; collecting the files",
  "job.completed": "Completed", "job.failed": "Failed", "job.cancelled": "Cancelled", "job.purged": "Files removed", "job.updated": "Changed",
};

function attemptLine(attempt) {
  return [h("span.small.soft", ` · attempt ${attempt.n} at ${attempt.provider}${attempt.prediction_id ? `, ${attempt.prediction_id}` : ""}`),
    attempt.error_message && h("p.danger.small", attempt.error_message, attempt.error_code && ` (${attempt.error_code})`)];
}

export function timeline({ events, attempts }) {
  let before = null;
  const shown = events.filter((one, index) => one.type !== "job.progress" || events[index + 1]?.type !== "job.progress");
  const told = new Set();
  const lines = shown.map((one) => {
    const passed = before ? seconds((Date.parse(one.at) - Date.parse(before)) / 1000) : "";
    before = one.at;
    const attempt = one.type === "job.started" && attempts.find((other) => other.n === one.attempt);
    if (attempt) told.add(attempt.n);
    const step = one.type === "job.failed" || one.code ? "bad-step" : one.type === "job.completed" ? "good-step" : null;
    return h("li", { class: step }, h("b", WORDS[one.type] ?? one.type), typeof one.progress === "number" && ` ${Math.round(one.progress * 100)} %`,
      h("span.small.soft.num", { title: when(one.at) }, ` ${at(one.at)}${passed && ` · +${passed}`}`), attempt && attemptLine(attempt),
      one.reason && h("p.small", one.reason), one.next_at && h("p.small.soft", `Next try ${at(one.next_at)}`));
  });
  const others = attempts.filter((one) => !told.has(one.n)).map((one) => h("li", { class: one.error_message ? "bad-step" : null }, h("b", `Attempt ${one.n}`), attemptLine(one)));
  return h("ol.timeline", lines, others);
}
