// Counts and selects the rows of the job list. CSS shows the action buttons while a row is selected.

export function countSelected() {
  const label = document.querySelector("[data-selected-count]");
  if (!label) {
    return;
  }
  const boxes = rowBoxes();
  const count = boxes.filter((box) => box.checked).length;
  const text = count ? `${count} selected` : "";
  if (label.textContent !== text) {
    label.textContent = text;
  }
  const all = document.querySelector("[data-all]");
  all.checked = count > 0 && count === boxes.length;
  all.indeterminate = count > 0 && count < boxes.length;
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
