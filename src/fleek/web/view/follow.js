// What happens meanwhile: events of jobs, the state of the service, and what is said while the connection is lost.
import { follow } from "../lib/events.js";
import { setServerTime } from "../lib/format.js";
import { drop, put } from "../lib/store.js";
import { reload } from "./gallery.js";
import { loadLive } from "./live.js";
import { inWords, state } from "./state.js";

const lost = document.getElementById("lost"), stateLine = document.getElementById("state");
let connection = { state: "new", retryAt: 0 }, seen = false;

async function drawState() {
  const { status } = await state();
  stateLine.dataset.state = status;
  stateLine.lastElementChild.textContent = inWords(status);
}

function drawLost() {
  const down = connection.state === "lost" || !navigator.onLine;
  lost.hidden = !down;
  if (down) lost.textContent = navigator.onLine ? `Connection lost. Trying again in ${Math.max(0, Math.ceil((connection.retryAt - Date.now()) / 1000))} s` : "You are offline. What you type is kept.";
}

const refresh = () => loadLive().catch(() => {}); // the next one may work
const whileVisible = (work, ms) => setInterval(() => { if (!document.hidden) work(); }, ms);

function happened(type, data) {
  if (type === "hello") {
    setServerTime(data.server_time);
    refresh();
    if (seen) reload();
    seen = true;
    drawState();
  } else if (type === "reset") reload();
  else if (type === "connection") { connection = data; drawLost(); }
  else if (type === "job.removed") drop(data.id);
  else if (type.startsWith("job.")) put(data, "event");
}

export function start(me) {
  if (me?.features.events) follow(happened);
  else whileVisible(refresh, 2000);
}

refresh();
drawState();
whileVisible(drawState, 15_000);
whileVisible(() => { if (connection.state !== "open") refresh(); }, 5000);
setInterval(drawLost, 1000);
for (const name of ["offline", "online"]) addEventListener(name, drawLost);
