// The models that can be used, asked for once.
import { api } from "./api.js";

let known = null;
const kinds = new Map();

export function loadModels(fresh = false) {
  if (fresh) known = null;
  known ??= api("models?available=true").then((all) => { for (const one of all) kinds.set(one.name, one.output); return all; }, (error) => { known = null; throw error; });
  return known;
}
export const kindOf = (job) => job.kind ?? kinds.get(job.model_name);
