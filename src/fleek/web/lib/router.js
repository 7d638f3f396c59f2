// The address says what is shown: `#/gallery?q=…`. The server has one page.
export function route() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  const [name = "", id = ""] = path.split("/").filter(Boolean).map(decodeURIComponent);
  return { name: name || "create", id, query: new URLSearchParams(query) };
}

export function address(name, query = {}) {
  const said = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return `#/${name}${said.size ? `?${said}` : ""}`;
}

export const go = (to) => { location.hash = to; };

export function replace(to) {
  history.replaceState(history.state, "", to);
  dispatchEvent(new HashChangeEvent("hashchange"));
}
