// Whether single letters are shortcuts.
const OFF = "fleek.shortcuts";
export const single = () => localStorage.getItem(OFF) !== "off";
export const setSingle = (on) => localStorage.setItem(OFF, on ? "on" : "off");
