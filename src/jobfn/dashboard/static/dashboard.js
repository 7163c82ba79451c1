// Entry point. Every module is independent; without JavaScript all pages work too.
import { confirmActions } from "./dialogs.js";
import { enableShortcuts } from "./keys.js";
import { startLiveUpdates } from "./live.js";
import { countSelected } from "./selection.js";
import { showTimes } from "./times.js";

showTimes();
confirmActions();
countSelected();
enableShortcuts();
startLiveUpdates();
