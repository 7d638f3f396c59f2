// Shortcuts. Single letters can be switched off, and never act in a text field.
import { typing } from "./dom.js";

const OFF = "fleek.shortcuts";
export const single = () => localStorage.getItem(OFF) !== "off";
export const setSingle = (on) => localStorage.setItem(OFF, on ? "on" : "off");

// `act(key)` returns whether it did something with it; `send` sends the form.
export function shortcuts({ act, send }) {
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      if (send()) event.preventDefault();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing()) return;
    if (event.key.length === 1 && !single() && event.key !== "?") return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (act(name)) event.preventDefault();
  });
}
