// Keeps the page current: the server sends the page's live part whenever it has changed, and morph.js puts it in place.
import { morph } from "./morph.js";
import { showTimes, setServerTime } from "./times.js";
import { countSelected } from "./selection.js";

let source = null;

export function followPage() {
  if (!document.getElementById("live")?.childElementCount) {
    return;
  }
  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : follow()));
  window.addEventListener("pagehide", leave);
  window.addEventListener("pageshow", follow);
  follow();
}

function follow() {
  if (source || document.hidden) {
    return;
  }
  source = new EventSource(`/live${location.pathname}${location.search}`);
  source.addEventListener("hello", (event) => useToken(JSON.parse(event.data).csrf_token));
  source.addEventListener("page", (event) => {
    const { html, now } = JSON.parse(event.data);
    setServerTime(now);
    const live = document.getElementById("live");
    const next = live.cloneNode(false);
    next.innerHTML = html;
    morph(live, next);
    showTimes();
    countSelected();
    say("live", "live");
  });
  source.addEventListener("trouble", (event) => say("lost", JSON.parse(event.data).text));
  source.addEventListener("error", () => {
    say("lost", "not connected, trying again");
    if (source?.readyState === EventSource.CLOSED) {
      // Refused, for instance because the login has ended: the browser does not try again by itself.
      source = null;
      setTimeout(follow, 5000);
    }
  });
}

function leave() {
  source?.close();
  source = null;
  say("off", "paused");
}

// After the server was restarted, the token of the page's own forms is from before.
function useToken(token) {
  document.querySelector("meta[name=csrf-token]").content = token;
  document.querySelectorAll("input[name=csrf_token]").forEach((input) => (input.value = token));
}

function say(state, text) {
  const pulse = document.getElementById("pulse");
  if (pulse.dataset.state !== state || pulse.textContent !== text) {
    pulse.dataset.state = state;
    pulse.textContent = text;
  }
}
