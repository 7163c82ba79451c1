// Keeps the page up to date: the server sends the live part of the page when it changes, and morph.js applies it.
import { morph } from "./morph.js";
import { showTimes, setServerTime } from "./times.js";
import { countSelected } from "./selection.js";

const RECONNECT_MS = 5000;
let source = null;

export function startLiveUpdates() {
  if (!document.getElementById("live")?.childElementCount) {
    return;
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? disconnect() : connect()));
  window.addEventListener("pagehide", disconnect);
  window.addEventListener("pageshow", connect);
  connect();
}

function connect() {
  if (source || document.hidden) {
    return;
  }
  const { root } = document.documentElement.dataset;
  source = new EventSource(`${root}/live${location.pathname.slice(root.length)}${location.search}`);
  // "open" and "error" are events of the server, with data, and of the browser's connection, without.
  source.addEventListener("open", ({ data }) => data && setCsrfToken(JSON.parse(data).csrf_token));
  source.addEventListener("page", (event) => {
    const { html, banner, now } = JSON.parse(event.data);
    setServerTime(now);
    update("live", html);
    update("banner", banner);
    showTimes();
    countSelected();
    setStatus("live", "live");
  });
  source.addEventListener("error", ({ data }) => {
    setStatus("lost", data ? JSON.parse(data).text : "disconnected, trying again");
    if (source?.readyState === EventSource.CLOSED) {
      // The server refused, for example after the login expired: the browser does not reconnect.
      source = null;
      setTimeout(connect, RECONNECT_MS);
    }
  });
}

function update(id, html) {
  const element = document.getElementById(id);
  const next = element.cloneNode(false);
  next.innerHTML = html;
  morph(element, next);
}

function disconnect() {
  source?.close();
  source = null;
  setStatus("off", "paused");
}

// A restarted server rejects the CSRF token that the page was rendered with.
function setCsrfToken(token) {
  document.querySelector("meta[name=csrf-token]").content = token;
  document.querySelectorAll("input[name=csrf_token]").forEach((input) => (input.value = token));
}

function setStatus(state, text) {
  const status = document.getElementById("live-status");
  if (status.dataset.state !== state || status.textContent !== text) {
    status.dataset.state = state;
    status.textContent = text;
  }
}
