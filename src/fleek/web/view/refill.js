// Fills the form with what an address names: a job to be made again, a model, or a seed.
import { api } from "../lib/api.js";
import { loadModels } from "../lib/catalogue.js";
import { jobs } from "../lib/store.js";
import { fill, setSeed, useModel } from "./ask.js";
import { toast } from "./toast.js";

async function again(id) {
  const made = jobs.get(id) ?? await api(`jobs/${id}`), route = made.route;
  const job = route?.requested?.length ? { ...made, model_name: route.requested[0], parameters: route.requested_parameters ?? made.parameters } : made; // as it was asked for
  const known = (await loadModels()).find((one) => one.name === job.model_name);
  const next = known ?? await api(`models/${job.model_name.split(":")[0]}`).catch(() => null);
  useModel(next ? { ...next, name: job.model_name } : { name: job.model_name, provider: job.provider, output: job.kind, parameters: null });
  fill(job);
}

async function useNamed(name) {
  const found = (await loadModels()).find((one) => one.name === name);
  if (found) useModel(found);
}

async function useSeed(value) {
  await loadModels().catch(() => {});
  toast(setSeed(value) ? `Seed ${value} is in the form` : "This model takes no seed");
}

const USES = { again, model: useNamed, seed: (text) => useSeed(Number(text)) };
export const refill = (name, value) => USES[name](value);
