// The entry: each module does one thing and works without the others. Without any of them the pages still work.
import { followPage } from "./live.js";
import { askFirst } from "./dialogs.js";
import { listenToKeys } from "./keys.js";
import { countSelected } from "./selection.js";
import { showTimes } from "./times.js";

showTimes();
askFirst();
countSelected();
listenToKeys();
followPage();
