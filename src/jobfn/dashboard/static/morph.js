// Makes one element like another with as few changes as can be, so that focus, selection, scroll position, what is
// typed in and what is ticked stay as they are. Children with an id are matched by it, others by their place.

export function morph(old, next) {
  copyAttributes(old, next);
  if (old.tagName === "TIME" && old.dataset.shown && old.getAttribute("datetime") === next.getAttribute("datetime")) {
    return; // times.js has written into it
  }
  const kept = new Map([...old.children].filter(idOf).map((child) => [idOf(child), child]));
  let place = old.firstChild;
  for (const wanted of [...next.childNodes]) {
    const match = idOf(wanted) ? kept.get(idOf(wanted)) : isAlike(place, wanted) ? place : null;
    if (!match) {
      old.insertBefore(wanted, place);
      continue;
    }
    if (match !== place) {
      old.insertBefore(match, place);
    }
    place = match.nextSibling;
    if (match.nodeType === Node.ELEMENT_NODE) {
      morph(match, wanted);
    } else if (match.nodeValue !== wanted.nodeValue) {
      match.nodeValue = wanted.nodeValue;
    }
  }
  while (place) {
    const after = place.nextSibling;
    place.remove();
    place = after;
  }
}

// Not node.id: a form's is whatever field of it is called "id".
function idOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("id") : null;
}

function isAlike(node, wanted) {
  return Boolean(node) && node.nodeType === wanted.nodeType && node.nodeName === wanted.nodeName && !idOf(node);
}

// What a script has put there begins with data-my-; whether a box is ticked or details are open is the reader's.
function copyAttributes(old, next) {
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && !name.startsWith("data-my-") && name !== "open") {
      old.removeAttribute(name);
    }
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value && name !== "open" && name !== "value") {
      old.setAttribute(name, value);
    }
  }
  if (old.tagName === "PROGRESS" || old.type === "hidden") {
    old.setAttribute("value", next.getAttribute("value"));
  }
}
