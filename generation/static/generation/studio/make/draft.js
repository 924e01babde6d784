/** What the Create screen is about to ask for. It is kept in this browser, so that closing the page loses nothing;
 * pictures are held in memory alone. Listeners of "change" hear the names that changed.
 */

import { catalogue, modelNamed, modelsFor } from "../core/catalogue.js";
import { read, write } from "../core/keep.js";
import { limitsOf, longerSides, shapeOf, sidesOf } from "./shape.js";

const EMPTY = {
  kind: "text2img", text: "", negative: "", model: "", style: "", ratio: "1:1", longer: 0, count: 1, loras: [],
  steps: null, guidance: null, sampler: "", seed: "", seedLocked: false, format: "", watermark: "", upscale: 0, white: false,
  strength: 0.75, feather: 8, controlType: "", controlStrength: 1, exact: "",
};
export const PATHS = { text2img: "generate", img2img: "img2img", inpaint: "inpaint", controlnet: "controlnet", upscale: "upscale" };

class Draft extends EventTarget {
  values = { ...EMPTY };
  pictures = { image: null, mask: null, control_image: null }; // Blobs

  load() {
    this.values = { ...EMPTY, ...read("draft", {}), kind: "text2img" };
    this.settle();
  }

  /** Changes values, keeps them, and tells who listens. */
  set(changes) {
    if (["ratio", "longer", "kind"].some((name) => name in changes)) this.values.exact = "";
    Object.assign(this.values, changes);
    this.settle();
    write("draft", { ...this.values, kind: "text2img", exact: "" });
    this.dispatchEvent(new CustomEvent("change", { detail: Object.keys(changes) }));
  }

  /** A picture for a field of the request, or null. */
  setPicture(field, blob) {
    this.pictures[field] = blob;
    this.dispatchEvent(new CustomEvent("change", { detail: [field] }));
  }

  get model() {
    return modelNamed(this.values.model) ?? modelsFor(this.values.kind)[0] ?? catalogue.models[0];
  }

  /** Brings values within what model and plan allow. */
  settle() {
    const { values, model } = this;
    if (!model) return;
    if (values.model && !model.kinds.includes(values.kind)) values.model = "";
    const sides = longerSides(values.ratio, limitsOf(this.model, catalogue.plan));
    const usual = Math.max(model.default_width, model.default_height);
    if (!sides.includes(values.longer)) {
      const wanted = values.longer || usual;
      values.longer = sides.find((side) => side >= wanted) ?? sides.at(-1) ?? usual;
    }
    values.count = Math.min(values.count, catalogue.plan?.max_images ?? 4);
    if (values.steps > model.max_steps) values.steps = null;
    if (values.style && !catalogue.styles.some((style) => style.name === values.style)) values.style = "";
    values.loras = values.loras.filter((lora) => catalogue.loras.some((one) => one.name === lora.name));
    if (!catalogue.plan?.super_resolution) values.upscale = 0;
  }

  /** Width and height; those of an extended picture are its own. */
  get sides() {
    if (this.values.exact) return this.values.exact.split("x").map(Number);
    return sidesOf(this.values.ratio, this.values.longer);
  }

  /** `params` of a request. What is as the model has it is left out. */
  params() {
    const { values, model } = this;
    const [width, height] = this.sides;
    const params = { model: model.name, resolution: `${width}x${height}`, num_images: values.count };
    const given = {
      style: values.style, negative_text: values.negative, steps: values.steps, cfg_scale: values.guidance,
      sampler: values.sampler, format: values.format,
    };
    for (const [name, value] of Object.entries(given)) if (value) params[name] = value;
    if (values.seed !== "" && values.seedLocked) params.seed = Number(values.seed);
    if (values.loras.length) params.loras = values.loras.map(({ name, weight }) => ({ name, weight }));
    const block = this.postprocess();
    if (Object.keys(block).length) params.postprocess = block;
    else params.preview = true;
    return { ...params, ...this.paramsOfKind() };
  }

  postprocess() {
    const { watermark, upscale, white } = this.values;
    const block = {};
    if (watermark.trim()) block.watermark = { kind: "text", text: watermark.trim() };
    if (upscale) block.upscale = { scale: upscale };
    if (white) block.white_background = true;
    return block;
  }

  paramsOfKind() {
    const { kind, strength, feather, controlType, controlStrength } = this.values;
    if (kind === "controlnet") {
      const started = this.pictures.image ? { strength } : {};
      return { control_strength: controlStrength, ...(controlType ? { control_type: controlType } : {}), ...started };
    }
    if (kind === "inpaint") return { strength, mask_feather: feather };
    return kind === "img2img" ? { strength } : {};
  }

  /** The pictures that a request of this kind brings, by their fields; null where one is missing. */
  neededPictures() {
    const fields = { text2img: [], img2img: ["image"], inpaint: ["image", "mask"], controlnet: ["control_image"] }[this.values.kind];
    return Object.fromEntries(fields.map((field) => [field, this.pictures[field]]));
  }

  /** The parameters of an earlier task. */
  use(task) {
    const { input } = task, block = input.postprocess ?? {};
    this.set({
      text: input.text, negative: input.negative_text ?? "", model: input.model?.split("@")[0] ?? "", style: input.style ?? "",
      ...shapeOf(input.resolution), count: input.num_images ?? 1, steps: input.steps ?? null, guidance: input.cfg_scale ?? null,
      sampler: input.sampler ?? "", seed: String(task.outputs[0]?.seed ?? input.seed ?? ""), seedLocked: false,
      loras: input.loras.map(({ name, weight }) => ({ name: name.split("@")[0], weight })),
      format: block.format ?? "", watermark: block.watermark?.text ?? "", upscale: block.upscale?.scale ?? 0,
      white: block.white_background ?? false, strength: input.strength ?? EMPTY.strength,
    });
  }
}

export const draft = new Draft();
