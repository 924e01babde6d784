/** The page's start: who is here, which screen, language and colours. Screens are loaded when they are first opened. */

import { request } from "./core/api.js";
import { catalogue, loadCatalogue } from "./core/catalogue.js";
import { forget, read, write } from "./core/keep.js";
import { failure, notice } from "./core/notice.js";
import { fillTexts, switchLanguage, t } from "./core/texts.js";
import { draft } from "./make/draft.js";
import { tasks } from "./watch/tasks.js";

const SCREENS = {
  create: async () => (await import("./make/create.js")).createScreen(),
  gallery: async () => (await import("./sort/gallery.js")).galleryScreen(),
  batch: async () => (await import("./batch/batch.js")).batchScreen(),
  account: async () => (await import("./account/account.js")).accountScreen(),
};
const shown = new Map(); // name -> element
const place = document.getElementById("main");
const gate = document.getElementById("gate");

async function show() {
  const name = location.hash.slice(1).split("?")[0] in SCREENS ? location.hash.slice(1).split("?")[0] : "create";
  for (const link of document.querySelectorAll("nav a[href^='#']")) {
    link.toggleAttribute("aria-current", link.hash === `#${name}`);
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
  }
  try {
    if (!shown.has(name)) shown.set(name, await SCREENS[name]());
  } catch (error) {
    return failure(error);
  }
  const screen = shown.get(name);
  if (place.firstChild !== screen) place.replaceChildren(screen);
  screen.dispatchEvent(new CustomEvent("shown"));
  return undefined;
}

async function enter() {
  gate.hidden = true;
  document.getElementById("nav").hidden = document.getElementById("logout").hidden = place.hidden = false;
  place.replaceChildren(Object.assign(document.createElement("p"), { className: "loading", textContent: t("loading") }));
  try {
    await loadCatalogue();
  } catch (error) {
    return error.status === 401 ? leave() : retryLater(error);
  }
  if (catalogue.account.profile?.child_safe_styles) document.querySelector("nav a[href='/kids']").hidden = false;
  draft.load();
  await show();
  return tasks.start();
}

function retryLater(error) {
  const again = Object.assign(document.createElement("button"), { textContent: t("try_again"), onclick: enter });
  place.replaceChildren(Object.assign(document.createElement("p"), { className: "empty", textContent: error.message }), again);
}

function leave() {
  tasks.stop();
  shown.clear();
  place.replaceChildren();
  place.hidden = document.getElementById("nav").hidden = document.getElementById("logout").hidden = true;
  gate.hidden = false;
  import("./account/gate.js").then(({ openGate }) => openGate(gate, enter)).catch(failure);
}

document.getElementById("logout").addEventListener("click", async () => {
  await request("/session", { method: "DELETE" }).catch(() => undefined);
  document.body.dataset.session = "no";
  forget();
  leave();
});

document.addEventListener("signed-out", () => {
  if (gate.hidden) {
    leave();
    notice(t("session_over"));
  }
});

document.addEventListener("open-picture", async ({ detail }) => {
  const { openViewer } = await import("./sort/viewer.js");
  openViewer(detail.list ?? [{ task: detail.task, index: detail.index }], detail.at ?? 0);
});

/** Colours: as the system has them, until somebody chooses. */
function theme(change) {
  const now = read("theme", "");
  const dark = now ? now === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const next = change ? (dark ? "light" : "dark") : now;
  if (change) write("theme", next);
  if (next) document.documentElement.dataset.theme = next;
}

document.getElementById("theme").addEventListener("click", () => theme(true));
document.getElementById("language").addEventListener("click", switchLanguage);
for (const name of ["online", "offline"]) {
  addEventListener(name, () => (document.getElementById("offline").hidden = navigator.onLine));
}
addEventListener("hashchange", () => gate.hidden && show());
theme(false);
fillTexts();
if (document.body.dataset.session === "yes") await enter();
else leave();
