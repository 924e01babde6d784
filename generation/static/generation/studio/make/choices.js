/** Choices of one among several that are seen: styles by their pictures, shapes as icons, models as cards. Each is a group
 * of radio buttons, so that arrow keys and screen readers work as they do everywhere.
 */

import { catalogue, modelsFor, stylePicture } from "../core/catalogue.js";
import { button, icon, make } from "../core/dom.js";
import { numberText, t, titleOf } from "../core/texts.js";
import { draft } from "./draft.js";
import { RATIOS, limitsOf, longerSides, sidesOf } from "./shape.js";

const FEW_STYLES = 8;

/** One radio button with what is seen of it. */
function choice(group, value, chosen, onchange, inside, { className = "", title = "", disabled = false } = {}) {
  const input = make("input", { type: "radio", name: group, value, checked: chosen, disabled });
  input.addEventListener("change", () => onchange(value));
  return make("label", { className: `choice ${className}`, title }, input, make("span", { className: "face" }, ...inside));
}

function group(name, title, ...inside) {
  return make("fieldset", { className: name }, make("legend", {}, title), ...inside);
}

/** Draws a group again when one of these values of the draft changes, with the focus where it was. */
function drawn(fieldset, names, fill) {
  const place = make("div", { className: "choices" });
  const again = () => {
    const focused = place.contains(document.activeElement) ? document.activeElement.value : null;
    place.replaceChildren(...fill());
    if (focused !== null) place.querySelector(`input[value="${CSS.escape(focused)}"]`)?.focus();
  };
  draft.addEventListener("change", (event) => event.detail.some((name) => names.includes(name)) && again());
  again();
  fieldset.append(place);
  return fieldset;
}

export function styleGallery() {
  let all = false;
  const fieldset = group("styles", t("style"));
  const more = button(t("all_styles", { n: catalogue.styles.length }), { kind: "plain small" });
  const fill = () => {
    const { style } = draft.values;
    const found = catalogue.styles.filter((one, index) => all || index < FEW_STYLES - 1 || one.name === style);
    return [
      choice("style", "", style === "", (value) => draft.set({ style: value }), [make("span", { className: "no-picture" }, icon("close")), make("b", {}, t("none"))]),
      ...found.map((one) => choice("style", one.name, one.name === style, (value) => draft.set({ style: value }), styleFace(one))),
    ];
  };
  const place = drawn(fieldset, ["style"], fill);
  more.setAttribute("aria-expanded", "false");
  more.onclick = () => {
    all = !all;
    more.setAttribute("aria-expanded", String(all));
    more.textContent = all ? t("fewer_styles") : t("all_styles", { n: catalogue.styles.length });
    fieldset.querySelector(".choices").replaceChildren(...fill());
  };
  if (catalogue.styles.length >= FEW_STYLES) place.append(more);
  return place;
}

function styleFace(style) {
  const picture = make("img", { src: stylePicture(style), alt: "", loading: "lazy", width: 96, height: 96 });
  picture.addEventListener("error", () => picture.replaceWith(make("span", { className: "no-picture" }, titleOf(style).slice(0, 1))), { once: true });
  return [picture, make("b", {}, titleOf(style))];
}

export function modelCards() {
  const fill = () =>
    modelsFor(draft.values.kind).map((model) => {
      const [name, rest = ""] = model.title.split(" (");
      const facts = t("model_facts", { sides: `${model.min_side}–${model.max_side}`, steps: model.default_steps });
      const inside = [make("b", {}, name), make("small", {}, rest.replace(/\)$/, "") || model.family), make("small", {}, facts)];
      const set = (value) => draft.set({ model: value, steps: null, guidance: null, sampler: "" });
      return choice("model", model.name, model === draft.model, set, inside, { className: "card" });
    });
  return drawn(group("models", t("model")), ["model", "kind"], fill);
}

export function shapes() {
  const fill = () => {
    const limits = limitsOf(draft.model, catalogue.plan), { ratio, longer } = draft.values;
    const ratios = RATIOS.map(([name, wide, high]) => {
      const outline = make("span", { className: "outline" });
      outline.style.aspectRatio = `${wide} / ${high}`;
      outline.style[wide >= high ? "width" : "height"] = "1.5rem";
      const able = longerSides(name, limits).length > 0;
      return choice("ratio", name, name === ratio, (value) => draft.set({ ratio: value }), [outline, make("b", {}, name)], { className: "shape", disabled: !able });
    });
    const sizes = longerSides(ratio, limits).map((side) => {
      const text = sidesOf(ratio, side).join(" × ");
      return choice("longer", String(side), side === longer, (value) => draft.set({ longer: Number(value) }), [make("b", {}, text)], { className: "pill" });
    });
    return [make("div", { className: "row" }, ...ratios), make("div", { className: "row" }, ...sizes)];
  };
  return drawn(group("shapes", t("shape")), ["ratio", "longer", "model", "kind"], fill);
}

export function counts() {
  const offered = [1, 2, 3, 4, 6, 8, 12, 16].filter((count) => count <= (catalogue.plan?.max_images ?? 4));
  const fill = () => [
    make("div", { className: "row" }, ...offered.map((count) =>
      choice("count", String(count), count === draft.values.count, (value) => draft.set({ count: Number(value) }), [make("b", {}, numberText(count))], { className: "pill" }))),
  ];
  return drawn(group("counts", t("count")), ["count"], fill);
}
