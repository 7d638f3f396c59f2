// Saves a file of a job.
import { key, raw } from "./api.js";

export async function save(job, index) {
  const path = `api/v1/download/${job.id}?index=${index}`;
  const link = document.createElement("a");
  link.download = job.outputs[index]?.url.split("/").pop().split("?")[0] ?? "";
  if (key.get()) {
    const answer = await raw(path);
    link.href = URL.createObjectURL(await answer.blob());
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } else link.href = path;
  document.body.append(link);
  link.click();
  link.remove();
}
