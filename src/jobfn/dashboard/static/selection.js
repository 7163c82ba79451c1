// How many rows are ticked, and ticking all of them. Which buttons are seen follows in the styles, from the boxes.

export function countSelected() {
  const chosen = document.querySelector("[data-chosen]");
  if (!chosen) {
    return;
  }
  const boxes = rowBoxes();
  const number = boxes.filter((box) => box.checked).length;
  const text = number ? `${number} selected` : "";
  if (chosen.textContent !== text) {
    chosen.textContent = text;
  }
  const all = document.querySelector("[data-all]");
  all.checked = number > 0 && number === boxes.length;
  all.indeterminate = number > 0 && number < boxes.length;
}

export function selectAll(checked) {
  rowBoxes().forEach((box) => (box.checked = checked));
  if (!checked) {
    document.querySelectorAll("#jobs [name=scope]").forEach((box) => (box.checked = false));
  }
  countSelected();
}

function rowBoxes() {
  return [...document.querySelectorAll("#jobs [name=id]:not(:disabled)")];
}

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-all]")) {
    selectAll(event.target.checked);
  } else if (event.target.matches("#jobs input")) {
    countSelected();
  }
});
document.addEventListener("selection", countSelected);
