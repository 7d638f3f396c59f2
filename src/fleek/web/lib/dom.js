// Elements. Text is only ever set as text, so whatever a prompt or a model says cannot become markup.
const SVG = "http://www.w3.org/2000/svg";

// `h("button.text.danger", {onclick}, "Delete")`: a tag with its classes; attributes, if there are any; what is in it.
export function h(name, ...children) {
  const [tag, ...classes] = name.split("."), props = children[0]?.constructor === Object ? children.shift() : {};
  const el = document.createElement(tag);
  if (tag === "button") el.type = "button";
  if (classes.length) el.classList.add(...classes);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
    else if (key === "vars") for (const [variable, one] of Object.entries(value)) el.style.setProperty(`--${variable}`, one);
    else if (key === "value" || key === "checked") el[key] = value;
    else el.setAttribute(key, value === true ? "" : value);
  }
  return swap(el, ...children);
}

export const swap = (parent, ...children) => {
  parent.replaceChildren(...children.flat(3).filter((one) => one || one === 0));
  return parent;
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg"), use = document.createElementNS(SVG, "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

export const iconButton = (name, label, onclick, props) =>
  h("button.icon", { "aria-label": label, title: label, onclick, ...props }, icon(name));

export const labelled = (label, control) => h("div", h("label.label", { for: control.id }, label), h("div.field-box", control));

// Children of `parent` become those of `items`, in order; an element is kept for as long as its key is there.
export function patch(parent, items, key, make, update) {
  const had = parent.keyed ?? new Map(), next = new Map();
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

// A dialog that is removed when it closes. Esc, its cross and a press outside close it; with `must`, only an answer.
export function dialog(title, content, { onclose, must } = {}) {
  const box = h("dialog.sheet", { "aria-label": title }, h("div.inner", h("h2", title), content,
    !must && iconButton("x", "Close", () => box.close(), { class: "icon close" })));
  if (!must) box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  box.addEventListener("close", () => {
    box.remove();
    onclose?.(box.returnValue);
  });
  document.body.append(box);
  box.showModal();
  return box;
}

export const typing = (el = document.activeElement) =>
  Boolean(el?.closest?.("input:not([type=checkbox], [type=radio], [type=range]), textarea, select"));

export function later(work, wait) {
  let timer = 0;
  return (...said) => { clearTimeout(timer); timer = setTimeout(work, wait, ...said); };
}
