// Elements. Text is only ever set as text, so whatever a prompt or a model says cannot become markup.
const SVG = "http://www.w3.org/2000/svg";

export function h(tag, props, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) el.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [key, one] of Object.entries(value)) el.style.setProperty(`--${key}`, one);
    else if (name === "value" || name === "checked") el[name] = value;
    else el.setAttribute(name === "class" ? name : name, value === true ? "" : value);
  }
  el.append(...children.flat(3).filter((one) => one !== null && one !== undefined && one !== false));
  return el;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg"), use = document.createElementNS(SVG, "use");
  svg.setAttribute("aria-hidden", "true");
  if (["spark", "grid", "queue", "pulse"].includes(name)) svg.setAttribute("viewBox", "0 0 20 20");
  use.setAttribute("href", `static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

export const iconButton = (name, label, onclick, props) =>
  h("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick, ...props }, icon(name));

// Children of `parent` become those of `items`, in order; an element is kept for as long as its key is there.
export function patch(parent, items, key, make, update) {
  const had = parent.keyed ?? (parent.keyed = new Map()), next = new Map();
  let place = parent.firstChild;
  for (const item of items) {
    const id = key(item);
    let el = had.get(id);
    if (el) had.delete(id);
    else el = make(item);
    update?.(el, item);
    next.set(id, el);
    if (el === place) place = place.nextSibling;
    else parent.insertBefore(el, place);
  }
  for (const el of had.values()) el.remove();
  parent.keyed = next;
}

export const swap = (parent, ...children) => {
  parent.replaceChildren(...children.flat(3).filter(Boolean));
  return parent;
};

// A dialog that is removed when it closes; Esc and a press outside close it.
export function dialog(label, content, { kind = "sheet", onclose } = {}) {
  const back = document.activeElement;
  const box = h("dialog", { class: kind, "aria-label": label },
    kind === "sheet" ? h("div", { class: "inner" }, content) : content);
  box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  box.addEventListener("close", () => {
    box.remove();
    onclose?.(box.returnValue);
    if (kind === "sheet" && back?.isConnected) back.focus();
  });
  document.body.append(box);
  box.showModal();
  return box;
}

export const typing = (el = document.activeElement) =>
  Boolean(el?.closest?.("input:not([type=checkbox], [type=radio], [type=range]), textarea, select"));

export const once = (work) => { let done; return () => (done ??= work()); };

export function later(work, wait) {
  let timer = 0;
  return (...said) => { clearTimeout(timer); timer = setTimeout(work, wait, ...said); };
}
