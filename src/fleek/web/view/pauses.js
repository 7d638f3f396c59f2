// What holds jobs back: pauses of providers and circuits of models, as the metrics say, and pauses by operators.
import { api, raw } from "../lib/api.js";
import { when } from "../lib/format.js";

const SAMPLE = /^fleek_(provider_paused_seconds|breaker_open)\{(.*)\} (\S+)$/gm, LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

// Metrics in the text format -> {provider: {seconds, reason, open: [model]}}; an account "name#2" is of its own.
export function readPauses(text) {
  const found = {};
  for (const [, metric, labels, value] of text.matchAll(SAMPLE)) {
    const of = Object.fromEntries([...labels.matchAll(LABEL)].map(([, name, quoted]) => [name, quoted.replace(/\\(.)/g, "$1")]));
    const one = found[of.provider] ??= { seconds: 0, reason: "", open: [] };
    if (metric === "breaker_open") one.open.push(of.model);
    else Object.assign(one, { seconds: Number(value), reason: of.reason });
  }
  return found;
}

export const providerPauses = async () => readPauses(await (await raw("metrics", { headers: { Accept: "text/plain" } })).text());
export const stopWords = ({ provider, model, since }) => `${[provider, model].filter(Boolean).join(" · ") || "All jobs"}: paused by an operator since ${when(since)}`;
export const operatorPauses = async (me) => (me?.scopes.includes("admin") ? (await api("queue", { tries: 0 })).paused : []);
