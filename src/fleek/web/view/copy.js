// Puts a text on the clipboard, and says so.
import { h } from "../lib/dom.js";
import { toast } from "./toast.js";

export async function copy(text, button) {
  try { await navigator.clipboard.writeText(text); } catch {
    const field = h("textarea.vh", { value: text });
    (button?.closest("dialog") ?? document.body).append(field);
    field.select();
    document.execCommand("copy"); // where the page is not served by https
    field.remove();
  }
  if (!button) return toast("Copied");
  const place = button.querySelector("[data-word]") ?? button, said = place.textContent;
  if (place === button && button.classList.contains("icon")) return toast("Copied");
  place.textContent = "Copied";
  setTimeout(() => { place.textContent = said === "Copied" ? "Copy" : said; }, 1600);
}
