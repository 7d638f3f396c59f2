// Starts the page: the form first, and beside it what the address says. What is not needed at first is loaded when it is.
import { h, icon, iconButton, swap } from "./lib/dom.js";
import { api, key, onUnauthorized } from "./lib/api.js";
import { go, route } from "./lib/router.js";
import { ask, startAsk } from "./view/ask.js";
import { tellProblem } from "./view/toast.js";

const main = document.getElementById("main"), home = h("div");
const TITLES = { gallery: "Gallery", queue: "Queue", models: "Models", system: "System", access: "Keys and webhooks", jobs: "Job" };
const scrolls = new Map();
let current = null, stop = null, view = null, under = null; // the page, what ends it, the job on it, the list under a job
let beside = null, lightbox = null, asked = null, me = null;

const PAGES = {
  queue: async () => (await import("./view/queue.js")).queuePage(await me),
  system: async () => (await import("./view/system.js")).systemPage(await me),
  models: async () => ({ el: (await import("./view/models.js")).modelsPage() }),
  access: async () => ({ el: (await import("./view/access.js")).accessPage(await me) }),
  jobs: async (at) => {
    view = (await import("./view/job.js")).jobView(at.id, { output: Number(at.query.get("output") ?? 0) });
    return { ...view, el: h("div.job-page", view.el) };
  },
};

const showWall = (query) => { asked = query; beside?.show(query); };
const drawHome = () => swap(home, current === "create" && beside?.inProgress, beside?.gallery);

async function drawPage(at) {
  scrolls.set(current, scrollY);
  stop?.();
  stop = view = null;
  current = at.name;
  main.classList.toggle("two-columns", at.name === "create");
  if (at.name in PAGES) {
    swap(main);
    const page = await PAGES[at.name](at);
    if (current !== at.name || route().id !== at.id) { page.stop?.(); return; }
    stop = page.stop;
    swap(main, page.el);
  } else {
    home.className = at.name === "create" ? "results" : "results only";
    swap(main, at.name === "create" && ask, drawHome());
    beside?.redraw();
  }
  scrollTo({ top: scrolls.get(current) ?? 0, behavior: "instant" });
}

async function openLightbox(id) {
  lightbox ??= await import("./view/lightbox.js");
  if (route().id === id) lightbox.open(id, (...said) => beside?.neighbour(...said));
}
function closeLightbox() {
  const id = lightbox?.close();
  if (id) beside?.focusTile(id);
}

// What an address can fill the form with; see `view/refill.js`. The latest address counts.
const FILLS = ["again", "model", "seed"];
let fills = 0;
async function fillForm(name, value) {
  history.replaceState(history.state, "", "#/");
  const mine = ++fills, { refill } = await import("./view/refill.js");
  if (mine === fills) await refill(name, value);
}

function navigate(event) {
  const at = route(), isList = at.name === "create" || at.name === "gallery";
  if (!isList && !(at.name in PAGES)) return go("#/");
  if (event?.isTrusted) for (const open of document.querySelectorAll("dialog.sheet[open]")) open.close();
  if (at.name === "jobs" && (under || lightbox?.opened())) openLightbox(at.id);
  else {
    closeLightbox();
    if (at.name !== current || at.name === "jobs") drawPage(at);
    under = isList;
    const fill = at.name === "create" && FILLS.find((name) => at.query.get(name));
    if (isList) showWall(fill ? new URLSearchParams() : at.query);
    if (fill) fillForm(fill, at.query.get(fill));
  }
  document.title = at.name in TITLES ? `${TITLES[at.name]} · Fleek` : "Fleek";
  for (const tab of document.querySelectorAll("[data-tab]")) tab.ariaCurrent = tab.dataset.tab === (at.name === "jobs" ? current : at.name) ? "page" : null;
  return null;
}

const THEMES = { system: "mono", light: "sun", dark: "spark" }, names = Object.keys(THEMES), look = document.documentElement.dataset;
const theme = iconButton("mono", "Theme", () => {
  setTheme(names[(names.indexOf(look.theme) + 1) % 3]);
  localStorage.setItem("fleek.theme", look.theme);
}, { id: "theme" });
function setTheme(name) {
  look.theme = name;
  swap(theme, icon(THEMES[name]));
  theme.ariaLabel = theme.title = `Theme: ${name}`;
}
setTheme(localStorage.getItem("fleek.theme") ?? "system");

const forget = iconButton("key", "Forget key", () => { key.forget(); location.reload(); });
const showKey = () => { forget.hidden = !key.get(); };
addEventListener("fleek:key", showKey);
showKey();
document.getElementById("buttons").append(forget, theme);

onUnauthorized(async (reason) => (await import("./view/login.js")).askForKey(reason));
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
addEventListener("unhandledrejection", ({ reason }) => tellProblem(reason)); // such as a part that cannot be loaded
addEventListener("hashchange", navigate);
history.scrollRestoration = "manual";
me = api("me").catch((error) => { tellProblem(error); return null; });
startAsk();
navigate();
import("./view/beside.js").then(async (loaded) => {
  beside = loaded;
  if (home.isConnected) drawHome();
  if (asked) beside.show(asked);
  beside.shortcuts(() => lightbox?.opened()?.keys ?? view?.keys);
  beside.start(await me);
});
