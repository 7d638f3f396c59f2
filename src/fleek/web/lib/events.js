// What happens to jobs, by one stream of events. A fetch rather than an EventSource: that sends no key.
import { Offline, raw } from "./api.js";

const SILENT = 45_000; // a comment comes every 15 seconds
let last = null, say = () => {};
const become = (state, wait = 0) => say("connection", { state, retryAt: Date.now() + wait });

function parse(block) {
  const found = { event: "message", data: "" };
  for (const line of block.split("\n")) {
    const at = line.indexOf(":");
    if (at <= 0) continue;
    const name = line.slice(0, at), value = line.slice(at + 1).replace(/^ /, "");
    if (name === "data") found.data += value;
    else found[name] = value;
  }
  return found;
}

async function read(answer, abort) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", watch = 0;
  const alive = () => { clearTimeout(watch); watch = setTimeout(() => abort.abort(), SILENT); };
  try {
    for (;;) {
      alive();
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const one of blocks.map(parse)) {
        if (one.id) last = one.id;
        if (one.data) say(one.event, JSON.parse(one.data));
      }
    }
  } finally { clearTimeout(watch); }
}

// Calls `listener(type, data)` for each event, and with "connection" when the state of the stream changes.
export async function follow(listener) {
  say = listener;
  for (let failed = 0; ; ) {
    const abort = new AbortController();
    let lost = true;
    try {
      const headers = last ? { "Last-Event-ID": last } : {};
      const answer = await raw("api/v1/events", { headers, signal: abort.signal });
      failed = 0;
      become("open");
      await read(answer, abort);
      lost = false; // it ends after an hour, or with the process
    } catch (error) {
      if (error.status === 403 || error.status === 404) { become("none"); return; }
      if (!(error instanceof Offline) && error.status === undefined && error.name !== "AbortError") console.debug(error);
    }
    const wait = lost ? Math.min(1000 * 2 ** failed, 30_000) : 250;
    failed += 1;
    become(lost || failed > 1 ? "lost" : "between", wait);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      addEventListener("online", () => { clearTimeout(timer); resolve(); }, { once: true });
    });
  }
}
