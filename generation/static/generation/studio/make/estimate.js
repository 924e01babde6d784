/** What a press of the button would cost and how long it would take, asked of the API without making anything. */

import { api } from "../core/api.js";
import { debounced, make } from "../core/dom.js";
import { numberText, secondsText, t } from "../core/texts.js";
import { PATHS, draft } from "./draft.js";
import { expand } from "./wildcards.js";

const SETTLED_MS = 500;

export function estimate() {
  const place = make("p", { className: "estimate hint", aria: { live: "polite" } });
  let number = 0;
  const ask = debounced(async () => {
    const mine = ++number;
    const said = await price().catch((error) => ({ error }));
    if (mine === number) show(place, said);
  }, SETTLED_MS);
  draft.addEventListener("change", ask);
  ask();
  return place;
}

async function price() {
  const { kind, text } = draft.values;
  if (!text.trim()) return null;
  const texts = expand(text), params = draft.params();
  if (kind === "text2img" && texts.length > 1) {
    return api("image/batch-generate", { method: "POST", body: { texts, params, dry_run: true } });
  }
  const pictures = Object.fromEntries(Object.keys(draft.neededPictures()).map((field) => [field, white(draft.sides)]));
  return api(`image/${PATHS[kind]}`, { method: "POST", body: { text: texts[0], params, dry_run: true, ...pictures } });
}

/** A white picture of the task's size: the price does not depend on what is in it. */
function white([width, height]) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  return canvas.toDataURL("image/png");
}

function show(place, said) {
  place.classList.toggle("bad", Boolean(said?.error));
  if (!said) return place.replaceChildren(t("price_of_nothing"));
  if (said.error) return place.replaceChildren(said.error.message);
  const parts = [
    t("pictures", { n: said.images }),
    t("price", { cost: numberText(said.megapixel_steps) }),
    t("about_time", { time: secondsText(said.estimated_time) }),
  ];
  const others = (said.warnings ?? []).filter((text) => !text.includes("knows none of these words")); // the prompt says so
  const warnings = others.map((text) => make("span", { className: "warning" }, inWords(text)));
  return place.replaceChildren(make("b", {}, parts.join(" · ")), ...warnings);
}

/** A warning of the API in the page's language, where it is one that the page knows. */
function inWords(text) {
  const style = text.match(/does not know the words of the style (\S+):/);
  if (style) return t("style_unknown", { style: style[1] });
  if (/hardly count$/.test(text)) return t("language_unknown");
  return text;
}
