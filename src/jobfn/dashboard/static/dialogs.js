// Shows the confirmation of an action in a dialog and its result in a toast. Both are the "fragment" block of a server
// page.

const TOAST_MS = 8000;

export function confirmActions() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("[data-confirm]")) {
      event.preventDefault();
      openConfirmation(form, event.submitter);
    } else if (form.matches("dialog [data-apply]")) {
      event.preventDefault();
      applyAction(form, event.submitter);
    }
  });
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) {
      document.getElementById(opener.dataset.open).showModal();
    }
    const closer = event.target.closest("dialog [data-close]");
    if (closer) {
      event.preventDefault();
      closer.closest("dialog").close();
    }
    if (event.target.matches("dialog[open]")) {
      event.target.close(); // click on the backdrop
    }
  });
}

async function openConfirmation(form, submitter) {
  const { ok, html } = await post(form, submitter);
  if (!ok) {
    toast(html);
    return;
  }
  const dialog = document.getElementById("confirm");
  dialog.innerHTML = html;
  dialog.showModal();
}

async function applyAction(form, submitter) {
  submitter.disabled = true;
  submitter.textContent = "Working…";
  const { status, html, redirect } = await post(form, null);
  if (redirect) {
    location.assign(redirect); // a long action: its page shows the progress
    return;
  }
  if (status === 422) {
    document.getElementById("confirm").innerHTML = html; // the form again, with what is wrong
    return;
  }
  document.getElementById("confirm").close();
  document.querySelectorAll("#jobs input:checked").forEach((box) => (box.checked = false));
  document.dispatchEvent(new Event("selection"));
  toast(html);
}

async function post(form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  const token = document.querySelector("meta[name=csrf-token]").content;
  try {
    // not form.action, which returns the buttons with the name "action"
    const response = await fetch(form.getAttribute("action"), {
      method: "POST",
      body,
      headers: { "X-Fragment": "1", "X-CSRF-Token": token },
    });
    if (response.redirected && response.ok) {
      return { ok: true, redirect: response.url };
    }
    const text = await response.text();
    const isHtml = response.headers.get("Content-Type").startsWith("text/html");
    return { ok: response.ok, status: response.status, html: isHtml ? text : notice(text) };
  } catch {
    return { ok: false, status: 0, html: notice("The dashboard is unreachable. Is it still running?") };
  }
}

function notice(text) {
  const box = document.createElement("div");
  box.className = "notice failed";
  box.textContent = text;
  return box.outerHTML;
}

function toast(html) {
  const toasts = document.getElementById("toasts");
  toasts.insertAdjacentHTML("beforeend", html);
  const added = toasts.lastElementChild;
  setTimeout(() => added.remove(), TOAST_MS);
}
