/** The drawer of what most people leave alone. Empty means: as the model has it. */

import { catalogue } from "../core/catalogue.js";
import { button, field, make, menu } from "../core/dom.js";
import { failure } from "../core/notice.js";
import { t } from "../core/texts.js";
import { draft } from "./draft.js";

const LARGEST_SEED = 2 ** 32;

export function advanced() {
  const place = make("div", { className: "grid-2" });
  const fill = () => place.replaceChildren(...controls());
  draft.addEventListener("change", (event) => {
    if (event.detail.some((name) => ["model", "kind", "seed", "text"].includes(name)) && !place.contains(document.activeElement)) fill();
  });
  fill();
  const summary = make("summary", {}, t("advanced"));
  return make("details", { className: "advanced" }, summary, place);
}

function number(name, { min, max, step, usual }) {
  const input = make("input", { type: "number", min, max, step, placeholder: usual, inputMode: "decimal" });
  input.value = draft.values[name] ?? "";
  input.onchange = () => draft.set({ [name]: input.value === "" ? null : Math.min(max, Math.max(min, Number(input.value))) });
  return input;
}

function controls() {
  const { values, model } = draft;
  const negative = make("textarea", { rows: 2, maxLength: 10_000, value: values.negative });
  negative.oninput = () => draft.set({ negative: negative.value });
  const samplers = [["", t("as_model", { value: model.default_sampler })], ...model.samplers.map((name) => [name, name])];
  const formats = [["", "WebP"], ["png", "PNG"], ["jpeg", "JPEG"], ["avif", "AVIF"]];
  const watermark = make("input", { maxLength: 200, value: values.watermark, placeholder: t("none") });
  watermark.oninput = () => draft.set({ watermark: watermark.value });
  const scales = [[0, t("none")], [2, "× 2"], [4, "× 4"]];
  const white = make("input", { type: "checkbox", checked: values.white });
  white.onchange = () => draft.set({ white: white.checked });
  return [
    field(t("negative"), negative, { className: "wide" }),
    field(t("steps"), number("steps", { min: 1, max: model.max_steps, step: 1, usual: model.default_steps })),
    field(t("guidance"), number("guidance", { min: 1, max: 20, step: 0.5, usual: model.default_cfg_scale })),
    field(t("sampler"), menu(samplers, values.sampler, (sampler) => draft.set({ sampler }))),
    seed(),
    field(t("format"), menu(formats, values.format, (format) => draft.set({ format }))),
    watermarkField(watermark),
    catalogue.plan?.super_resolution ? field(t("upscale"), menu(scales, values.upscale, (scale) => draft.set({ upscale: Number(scale) }))) : null,
    make("label", { className: "check wide" }, white, make("span", {}, t("white_background"))),
  ].filter(Boolean);
}

function watermarkField(input) {
  const show = async () => {
    const { showWatermark } = await import("../pictures/preview.js");
    await showWatermark(input.value.trim(), { given: draft.pictures.image, sides: draft.sides });
  };
  const look = button(t("watermark_preview"), { drawing: "picture", shown: false, kind: "square", disabled: !input.value.trim(), onclick: () => show().catch(failure) });
  input.addEventListener("input", () => (look.disabled = !input.value.trim()));
  const made = field(t("watermark"), input);
  const row = make("div", { className: "joined" });
  input.replaceWith(row);
  row.append(input, look);
  return made;
}

/** The seed counts while it is locked; open, every picture gets a new one. */
function seed() {
  const { values } = draft;
  const input = make("input", { type: "number", min: 0, max: LARGEST_SEED - 1, step: 1, value: values.seed, placeholder: t("random") });
  const lock = button("", { drawing: "unlock", shown: false, kind: "square" });
  const dice = button(t("new_seed"), { drawing: "dice", shown: false, kind: "square" });
  const show = () => {
    const locked = draft.values.seedLocked, text = t(locked ? "unlock_seed" : "lock_seed");
    const fresh = button(text, { drawing: locked ? "lock" : "unlock", shown: false });
    lock.replaceChildren(...fresh.children);
    lock.title = text;
    lock.setAttribute("aria-label", t("lock_seed"));
    lock.setAttribute("aria-pressed", String(locked));
  };
  input.oninput = () => (draft.set({ seed: input.value, seedLocked: input.value !== "" }), show());
  lock.onclick = () => {
    if (input.value === "") input.value = Math.floor(Math.random() * LARGEST_SEED);
    draft.set({ seed: input.value, seedLocked: !draft.values.seedLocked });
    show();
  };
  dice.onclick = () => {
    input.value = Math.floor(Math.random() * LARGEST_SEED);
    draft.set({ seed: input.value, seedLocked: true });
    show();
  };
  show();
  const made = field(t("seed"), input);
  const row = make("div", { className: "joined" });
  input.replaceWith(row);
  row.append(input, dice, lock);
  return made;
}
