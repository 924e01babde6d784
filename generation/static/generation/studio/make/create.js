/** The Create screen: what to draw on the left, what is being drawn on the right. */

import { button, make, styleSheet } from "../core/dom.js";
import { failure, notice } from "../core/notice.js";
import { t } from "../core/texts.js";
import { sources } from "../pictures/sources.js";
import { watchList } from "../watch/watch.js";
import { tasks } from "../watch/tasks.js";
import { advanced } from "./advanced.js";
import { counts, modelCards, shapes, styleGallery } from "./choices.js";
import { draft } from "./draft.js";
import { estimate } from "./estimate.js";
import { loraPicker } from "./loras.js";
import { promptBox } from "./prompt-box.js";
import { sendDraft } from "./send.js";

const NARROW = "(max-width: 60rem)"; // where what is drawn is below what is asked for

export async function createScreen() {
  await styleSheet(new URL("create.css", import.meta.url));
  const go = button(t("generate"), { drawing: "spark", kind: "primary" });
  const send = () => press(go);
  go.onclick = send;
  const form = make(
    "form", { className: "make", onsubmit: (event) => event.preventDefault(), aria: { label: t("create") } },
    promptBox(send), sources(), styleGallery(), shapes(), counts(), modelCards(), loraPicker(), advanced(),
    make("div", { className: "press" }, estimate(), go),
  );
  return make("div", { className: "create" }, make("h1", { className: "sr" }, t("create")), form, watchList());
}

async function press(go) {
  const missing = missingOf();
  if (missing) {
    notice(missing, { kind: "bad" });
    return;
  }
  go.disabled = true;
  try {
    for (const task of await sendDraft(draft)) tasks.add(task);
    if (matchMedia(NARROW).matches) document.querySelector(".watch").scrollIntoView({ behavior: "smooth" });
  } catch (error) {
    failure(error);
  } finally {
    go.disabled = false;
  }
}

function missingOf() {
  if (!draft.values.text.trim()) {
    document.getElementById("prompt").focus();
    return t("write_a_prompt");
  }
  const [field] = Object.entries(draft.neededPictures()).find(([, blob]) => !blob) ?? [];
  return field ? t(`missing_${field}`) : "";
}
