// Keyboard shortcuts; "?" lists them (templates/shortcuts.html). They are off while the user types, while a dialog is
// open, and together with Ctrl, Alt or Meta.
import { selectAll, countSelected } from "./selection.js";
import { switchTimes } from "./times.js";

// Maximum time between "g" and the next key.
const SEQUENCE_MS = 1500;
let sequenceEnds = 0;

export function enableShortcuts() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]") || isTyping(event)) {
      return;
    }
    if (openPage(event.key) || moveFocus(event.key) || runCommand(event.key) || pressButton(event.key)) {
      event.preventDefault();
    }
  });
}

function isTyping({ target, key }) {
  const isTextInput = target.matches("input:not([type=checkbox]), textarea, select");
  if (isTextInput && key === "Escape") {
    target.blur();
  }
  return isTextInput;
}

function openPage(key) {
  const isSecondKey = performance.now() < sequenceEnds;
  sequenceEnds = !isSecondKey && key === "g" ? performance.now() + SEQUENCE_MS : 0;
  const link = isSecondKey && document.querySelector(`[data-go="${CSS.escape(key)}"]`);
  if (link) {
    link.click();
  }
  return Boolean(link) || sequenceEnds > 0;
}

function moveFocus(key) {
  const rows = [...document.querySelectorAll("[data-row]")];
  const step = { j: 1, k: -1 }[key];
  if (!step || !rows.length) {
    return false;
  }
  const current = rows.findIndex((row) => row.contains(document.activeElement));
  const next = current < 0 ? 0 : current + step;
  const row = rows[Math.min(rows.length - 1, Math.max(0, next))];
  row.querySelector("a").focus();
  row.scrollIntoView({ block: "nearest" });
  return true;
}

function runCommand(key) {
  switch (key) {
    case "?":
      document.getElementById("shortcuts").showModal();
      return true;
    case "T":
      switchTimes();
      return true;
    case "x":
      return toggleRow(document.activeElement.closest("[data-row]"));
    case "a":
      if (document.querySelector("[data-all]")) {
        selectAll(true);
      }
      return true;
    case "Escape":
      selectAll(false);
      return true;
    case "/":
      return focusSearch();
    default:
      return false;
  }
}

function focusSearch() {
  const field = document.querySelector('[data-key="/"]');
  if (!field) {
    location.assign(`${document.documentElement.dataset.root}/jobs#q`);
  }
  field?.focus();
  return true;
}

function toggleRow(row) {
  const box = row?.querySelector("[name=id]:not(:disabled)");
  if (box) {
    box.checked = !box.checked;
    countSelected();
  }
  return Boolean(box);
}

// Press the button with this key. In the list it applies to the selected rows; without a selection, to the focused row.
function pressButton(key) {
  const button = [...document.querySelectorAll("button[data-key]")].find((each) => each.dataset.key === key);
  if (!button) {
    return false;
  }
  const list = button.closest("#jobs");
  if (list && !list.querySelector("[name=id]:checked, [name=scope]:checked")) {
    if (!toggleRow(document.activeElement.closest("[data-row]"))) {
      return false;
    }
  }
  button.form.requestSubmit(button);
  return true;
}
