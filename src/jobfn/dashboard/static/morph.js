// Changes one element to equal another with minimal changes, so that focus, selection, scroll position and input stay.
// Children with an id are matched by id, others by position.

export function morph(old, next) {
  if (old.tagName === "TIME" && old.dataset.shown && old.getAttribute("datetime") === next.getAttribute("datetime")) {
    return; // times.js has replaced its text
  }
  copyAttributes(old, next);
  const byId = new Map([...old.children].filter(idOf).map((child) => [idOf(child), child]));
  let place = old.firstChild;
  for (const child of [...next.childNodes]) {
    const match = idOf(child) ? byId.get(idOf(child)) : isSameKind(place, child) ? place : null;
    if (!match) {
      old.insertBefore(child, place);
      continue;
    }
    if (match !== place) {
      old.insertBefore(match, place);
    }
    place = match.nextSibling;
    if (match.nodeType === Node.ELEMENT_NODE) {
      morph(match, child);
    } else if (match.nodeValue !== child.nodeValue) {
      match.nodeValue = child.nodeValue;
    }
  }
  while (place) {
    const after = place.nextSibling;
    place.remove();
    place = after;
  }
}

// Not node.id, which for a form is its input with the name "id".
function idOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("id") : null;
}

function isSameKind(node, other) {
  return Boolean(node) && node.nodeType === other.nodeType && node.nodeName === other.nodeName && !idOf(node);
}

// Keep the user's state: open details and changed inputs.
function copyAttributes(old, next) {
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && name !== "open") {
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
