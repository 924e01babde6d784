/** What a picture starts from: words alone, a picture, a part of a picture, or the lines of one. A picture is dropped,
 * pasted, chosen or picked from earlier ones.
 */

import { catalogue, modelsFor } from "../core/catalogue.js";
import { button, field, make, menu } from "../core/dom.js";
import { failure, notice } from "../core/notice.js";
import { t } from "../core/texts.js";
import { draft } from "../make/draft.js";
import { limitsOf, shapeOf } from "../make/shape.js";

const FIELDS = { text2img: "", img2img: "image", inpaint: "image", controlnet: "control_image" };
const TYPES = /^image\/(png|jpeg|webp)$/;

export function sources() {
  const kinds = Object.keys(FIELDS).filter((kind) => modelsFor(kind).length && catalogue.plan?.kinds.includes(kind));
  const place = make("div", { className: "source" });
  const fill = () => place.replaceChildren(...inside());
  const radios = kinds.map((kind) => {
    const input = make("input", { type: "radio", name: "kind", value: kind, checked: kind === draft.values.kind });
    input.onchange = () => draft.set({ kind });
    return make("label", { className: "choice pill" }, input, make("span", { className: "face" }, make("b", {}, t(`kind_${kind}`))));
  });
  draft.addEventListener("change", ({ detail }) => {
    if (!detail.some((name) => ["kind", "image", "control_image"].includes(name))) return;
    for (const radio of radios) radio.firstChild.checked = radio.firstChild.value === draft.values.kind;
    fill();
  });
  document.addEventListener("paste", (event) => pasted(event));
  fill();
  return make("fieldset", { className: "sources" }, make("legend", {}, t("start_from")), make("div", { className: "row" }, ...radios), place);
}

function inside() {
  const { kind } = draft.values, name = FIELDS[kind];
  if (!name) return [];
  const blob = draft.pictures[name];
  if (!blob) return [dropArea(name)];
  return [kind === "inpaint" ? maskPart(blob) : shownPicture(name, blob), ...settings(kind)];
}

function dropArea(name) {
  const file = make("input", { type: "file", accept: "image/png,image/jpeg,image/webp", className: "hidden", tabIndex: -1, aria: { label: t("choose_file") } });
  file.onchange = () => file.files[0] && take(name, file.files[0]);
  const choose = button(t("choose_file"), { drawing: "picture", onclick: () => file.click() });
  const pick = button(t("from_history"), { drawing: "grid", onclick: () => pickInto(name) });
  const area = make("div", { className: "drop" }, make("p", {}, t("drop_here")), make("div", { className: "row" }, choose, pick), file);
  area.ondragover = (event) => (event.preventDefault(), area.classList.add("over"));
  area.ondragleave = () => area.classList.remove("over");
  area.ondrop = (event) => {
    event.preventDefault();
    area.classList.remove("over");
    if (event.dataTransfer.files[0]) take(name, event.dataTransfer.files[0]);
  };
  return area;
}

async function pickInto(name) {
  const { pickPicture } = await import("./picker.js");
  const blob = await pickPicture();
  if (blob) await take(name, blob);
}

function pasted(event) {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => TYPES.test(one.type));
  if (!file || document.querySelector("dialog[open]") || !document.querySelector(".make")) return;
  event.preventDefault();
  if (draft.values.kind === "text2img") draft.set({ kind: "img2img" });
  take(FIELDS[draft.values.kind], file);
}

/** Uses a picture, and brings the shape near to its own. */
export async function take(name, blob) {
  if (!TYPES.test(blob.type)) {
    notice(t("not_a_picture"), { kind: "bad" });
    return;
  }
  const size = await createImageBitmap(blob).catch(() => null);
  if (!size) {
    notice(t("not_a_picture"), { kind: "bad" });
    return;
  }
  const { ratio, longer } = shapeOf(`${size.width}x${size.height}`);
  draft.set({ ratio, longer });
  draft.setPicture("mask", null);
  draft.setPicture(name, blob);
}

function loaded(blob) {
  const address = URL.createObjectURL(blob);
  const image = make("img", { src: address, alt: t("your_picture") });
  image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
  return image;
}

function changeButtons(name) {
  return button(t("other_picture"), { drawing: "close", kind: "small", onclick: () => (draft.setPicture("mask", null), draft.setPicture(name, null)) });
}

function shownPicture(name, blob) {
  return make("div", { className: "given" }, loaded(blob), changeButtons(name));
}

function maskPart(blob) {
  const place = make("div", {}, make("p", { className: "hint" }, t("paint_what_changes")));
  import("./mask-canvas.js").then(() => {
    const canvas = document.createElement("mask-canvas");
    const image = loaded(blob);
    image.alt = "";
    canvas.addEventListener("mask", async () => draft.setPicture("mask", await canvas.toBlob()));
    const extend = button(t("extend_picture"), { drawing: "larger", kind: "small", onclick: () => outpaint(blob).catch(failure) });
    place.append(canvas, make("div", { className: "row" }, extend, changeButtons("image")));
    const given = draft.pictures.mask;
    image.addEventListener("load", () => {
      canvas.picture = image;
      if (given) canvas.load(given);
    }, { once: true });
  });
  return place;
}

/** The picture with a larger frame: what is new is the mask. */
async function outpaint(blob) {
  const { askOutpaint } = await import("./outpaint.js");
  const made = await askOutpaint(blob, limitsOf(draft.model, catalogue.plan));
  if (!made) return;
  draft.pictures.mask = made.mask;
  draft.set({ exact: made.size, strength: 1 });
  draft.setPicture("image", made.image);
}

function settings(kind) {
  const strength = slider("strength", { min: 0.05, max: 1, step: 0.05, text: t("strength"), hint: t("strength_hint") });
  if (kind === "img2img") return [strength];
  if (kind === "inpaint") return [strength, slider("feather", { min: 0, max: 64, step: 1, text: t("feather") })];
  const types = draft.model.control_types;
  const chosen = types.length > 1 ? [field(t("control_type"), menu(types.map((one) => [one, t(`control_${one}`)]), draft.values.controlType || types[0], (controlType) => draft.set({ controlType })))] : [];
  return [make("p", { className: "hint" }, t("control_hint")), controlPreview(types), ...chosen, slider("controlStrength", { min: 0, max: 2, step: 0.05, text: t("control_strength") })];
}

/** What the model will get of the picture: drawn when it is asked for, before anything is spent. */
function controlPreview(types) {
  const place = make("div", { className: "control-preview", aria: { live: "polite" } });
  const show = async () => {
    const { showControl } = await import("./preview.js");
    await showControl(place, draft.pictures.control_image, draft.values.controlType || types[0]);
  };
  const ask = button(t("control_show"), { drawing: "picture", kind: "small", onclick: () => show().catch(failure) });
  return make("div", { className: "field" }, ask, place);
}

function slider(name, { text, hint = "", ...range }) {
  const shown = make("output", {}, String(draft.values[name]));
  const input = make("input", { type: "range", ...range });
  input.value = draft.values[name];
  input.oninput = () => (shown.textContent = input.value);
  input.onchange = () => draft.set({ [name]: Number(input.value) });
  const made = field(text, input, { hint, className: "slider" });
  made.querySelector("label").append(" ", shown);
  return made;
}
