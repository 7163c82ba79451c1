// Actions ask first, in a dialog, and say in a toast what was done. The words come from the server: its confirmation
// and result pages, of which only the inner part is fetched.

const TOAST_MS = 8000;

export function askFirst() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.matches("[data-ask]")) {
      event.preventDefault();
      ask(form, event.submitter);
    } else if (form.matches("dialog [data-act]")) {
      event.preventDefault();
      act(form, event.submitter);
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
      event.target.close(); // the backdrop
    }
  });
}

async function ask(form, submitter) {
  const { ok, html } = await post(form, submitter);
  if (!ok) {
    toast(html);
    return;
  }
  const dialog = document.getElementById("ask");
  dialog.innerHTML = html;
  dialog.showModal();
}

async function act(form, submitter) {
  submitter.disabled = true;
  submitter.textContent = "Working…";
  const { html } = await post(form, null);
  document.getElementById("ask").close();
  document.querySelectorAll("#jobs input:checked").forEach((box) => (box.checked = false));
  document.dispatchEvent(new Event("selection"));
  toast(html);
}

async function post(form, submitter) {
  const body = new URLSearchParams(new FormData(form, submitter));
  const token = document.querySelector("meta[name=csrf-token]").content;
  try {
    // not form.action: that is the buttons of that name
    const answer = await fetch(form.getAttribute("action"), {
      method: "POST",
      body,
      headers: { "X-Fragment": "1", "X-CSRF-Token": token },
    });
    const text = await answer.text();
    const isHtml = answer.headers.get("Content-Type").startsWith("text/html");
    return { ok: answer.ok, html: isHtml ? text : notice(text) };
  } catch {
    return { ok: false, html: notice("The dashboard does not answer. Is it still running?") };
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
  const shown = toasts.lastElementChild;
  setTimeout(() => shown.remove(), TOAST_MS);
}
