// Fills in where this service is, and how it feels.
const base = new URL(".", location.href).href.replace(/\/$/, "");
for (const place of document.querySelectorAll("[data-origin]")) place.textContent = base;

const state = document.getElementById("state");
const show = (word) => { state.textContent = word; state.dataset.state = word; };
fetch("readyz", { headers: { accept: "application/json" } })
  .then((answer) => answer.json())
  .then((health) => show(health.status))
  .catch(() => show("unreachable"));
