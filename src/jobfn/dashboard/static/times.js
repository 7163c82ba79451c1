// Replaces UTC times with relative times, and shows the local time beside them or as a tooltip. The key T switches
// between relative and local times.

const STORAGE_KEY = "jobfn-times";
const UNITS = [
  ["d", 86400],
  ["h", 3600],
  ["min", 60],
  ["s", 1],
];

let serverOffset = 0; // server time minus browser time, in milliseconds
let showsClock = localStorage.getItem(STORAGE_KEY) === "clock";

export function setServerTime(now) {
  serverOffset = Date.parse(now) - Date.now();
}

export function switchTimes() {
  showsClock = !showsClock;
  localStorage.setItem(STORAGE_KEY, showsClock ? "clock" : "ago");
  showTimes();
}

export function showTimes() {
  const now = Date.now() + serverOffset;
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = Date.parse(time.getAttribute("datetime"));
    const relative = ago((now - at) / 1000);
    const absolute = clock(at);
    const both = Boolean(time.closest("[data-both]"));
    write(time, both ? `${relative} · ${absolute}` : showsClock ? absolute : relative);
    const title = showsClock ? relative : absolute;
    if (!both && time.title !== title) {
      time.title = title;
    }
    time.dataset.shown = "yes";
  }
}

function write(time, text) {
  if (time.textContent !== text) {
    time.textContent = text;
  }
}

function ago(seconds) {
  const size = Math.abs(seconds);
  if (size < 1) {
    return "now";
  }
  const [unit, length] = UNITS.find(([, unitSeconds]) => size >= unitSeconds);
  const text = `${Math.floor(size / length)} ${unit}`;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

function clock(at) {
  const date = new Date(at);
  const part = (number) => String(number).padStart(2, "0");
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(part).join(":");
  const isToday = new Date(Date.now() + serverOffset).toDateString() === date.toDateString();
  return isToday ? time : `${date.getFullYear()}-${part(date.getMonth() + 1)}-${part(date.getDate())} ${time}`;
}

setInterval(() => document.hidden || showTimes(), 1000);
