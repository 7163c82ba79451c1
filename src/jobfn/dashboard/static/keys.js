// The keyboard: shown to the reader by "?" (templates/shortcuts.html). No shortcut works while something is typed in,
// while a dialog is open, or together with Ctrl, Alt or Meta.
import { selectAll, countSelected } from "./selection.js";
import { switchTimes } from "./times.js";

const GO_MS = 1500;
let goingUntil = 0;

export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]") || isTyping(event)) {
      return;
    }
    if (goTo(event.key) || move(event.key) || other(event.key) || press(event.key)) {
      event.preventDefault();
    }
  });
}

function isTyping({ target, key }) {
  const writes = target.matches("input:not([type=checkbox]), textarea, select");
  if (writes && key === "Escape") {
    target.blur();
  }
  return writes;
}

function goTo(key) {
  const isGoing = performance.now() < goingUntil;
  goingUntil = !isGoing && key === "g" ? performance.now() + GO_MS : 0;
  const link = isGoing && document.querySelector(`[data-go="${CSS.escape(key)}"]`);
  if (link) {
    link.click();
  }
  return Boolean(link) || goingUntil > 0;
}

function move(key) {
  const rows = [...document.querySelectorAll("[data-row]")];
  const step = { j: 1, k: -1 }[key];
  if (!step || !rows.length) {
    return false;
  }
  const here = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[Math.min(rows.length - 1, Math.max(0, here + (here < 0 ? (step > 0 ? 1 : 0) : step)))];
  next.querySelector("a").focus();
  next.scrollIntoView({ block: "nearest" });
  return true;
}

function other(key) {
  switch (key) {
    case "?":
      document.getElementById("shortcuts").showModal();
      return true;
    case "T":
      switchTimes();
      return true;
    case "x":
      return tick(document.activeElement.closest("[data-row]"));
    case "a":
      if (document.querySelector("[data-all]")) {
        selectAll(true);
      }
      return true;
    case "Escape":
      selectAll(false);
      return true;
    case "/":
      return search();
    default:
      return false;
  }
}

function search() {
  const field = document.querySelector('[data-key="/"]');
  if (!field) {
    location.assign("/jobs#q");
  }
  field?.focus();
  return true;
}

function tick(row) {
  const box = row?.querySelector("[name=id]:not(:disabled)");
  if (box) {
    box.checked = !box.checked;
    countSelected();
  }
  return Boolean(box);
}

// A button's own key. In the list it means the ticked rows; with none ticked, the row that has the focus.
function press(key) {
  const button = [...document.querySelectorAll("button[data-key]")].find((one) => one.dataset.key === key);
  if (!button) {
    return false;
  }
  const list = button.closest("#jobs");
  if (list && !list.querySelector("[name=id]:checked, [name=scope]:checked")) {
    if (!tick(document.activeElement.closest("[data-row]"))) {
      return false;
    }
  }
  button.form.requestSubmit(button);
  return true;
}
