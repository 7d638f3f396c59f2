// Saves a file of a job.
import { h } from "../lib/dom.js";
import { key, raw } from "../lib/api.js";
import { tellProblem } from "./toast.js";

export async function save(job, index) {
  const path = `api/v1/download/${job.id}?index=${index}`;
  const link = h("a", { href: path, download: job.outputs[index]?.url.split("/").pop().split("?")[0] ?? "" });
  try {
    if (key.get()) link.href = URL.createObjectURL(await (await raw(path)).blob());
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) { tellProblem(error); }
}
