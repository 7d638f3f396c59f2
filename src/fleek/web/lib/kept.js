// What this tab keeps, as JSON; `otherwise`, if there is none or it cannot be read.
export const kept = (name, otherwise) => { try { return JSON.parse(sessionStorage.getItem(name)) ?? otherwise; } catch { return otherwise; } };
