/** Painting a mask over a picture: a brush, an eraser, invert, undo; by pointer, pen or keyboard. White is repainted. */

import { button, make } from "../core/dom.js";
import { t } from "../core/texts.js";
import { zoomTools } from "./zoom.js";

const LARGEST = 1024; // longer side of the mask in pixels
const MOST_UNDO = 30;
const PAINT = "#7c3aed";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

class MaskCanvas extends HTMLElement {
  #canvas = make("canvas", { tabIndex: 0, attributes: { role: "img" }, aria: { label: t("mask_help") } });
  #context = this.#canvas.getContext("2d", { willReadFrequently: true });
  #ring = make("span", { className: "ring", hidden: true });
  #undo = [];
  #erasing = false;
  #part = 0.12; // of the shorter side: the brush
  #at = null;
  #stage = make("div", { className: "stage" });
  #view = make("div", { className: "view" }, this.#stage);

  /** The picture to paint over, as an image element that has loaded. */
  set picture(image) {
    const scale = Math.min(1, LARGEST / Math.max(image.naturalWidth, image.naturalHeight));
    this.#canvas.width = Math.round(image.naturalWidth * scale);
    this.#canvas.height = Math.round(image.naturalHeight * scale);
    this.#undo = [];
    this.#at = [this.#canvas.width / 2, this.#canvas.height / 2];
    this.#stage.replaceChildren(image, this.#canvas, this.#ring);
    this.#changed();
  }

  connectedCallback() {
    if (this.firstChild) return;
    this.append(this.#view, this.#tools());
    const canvas = this.#canvas;
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", () => this.#end());
    canvas.addEventListener("pointercancel", () => this.#end());
    canvas.addEventListener("pointerleave", () => (this.#ring.hidden = true));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => (this.#ring.hidden = true));
  }

  /** Paints what is white in a mask that was made elsewhere. */
  async load(mask) {
    const bitmap = await createImageBitmap(mask);
    const { width, height } = this.#canvas;
    this.#context.clearRect(0, 0, width, height);
    this.#context.drawImage(bitmap, 0, 0, width, height);
    const pixels = this.#context.getImageData(0, 0, width, height);
    for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = pixels.data[at];
    this.#context.putImageData(pixels, 0, 0);
    this.#context.globalCompositeOperation = "source-in";
    this.#context.fillStyle = PAINT;
    this.#context.fillRect(0, 0, width, height);
    this.#context.globalCompositeOperation = "source-over";
    this.#changed();
  }

  get isEmpty() {
    const { data } = this.#context.getImageData(0, 0, this.#canvas.width, this.#canvas.height);
    for (let at = 3; at < data.length; at += 4) if (data[at]) return false;
    return true;
  }

  /** The mask as PNG: white where it was painted, black elsewhere; null while nothing is painted. */
  async toBlob() {
    if (this.isEmpty) return null;
    const { width, height } = this.#canvas;
    const made = make("canvas", { width, height }), context = made.getContext("2d");
    context.drawImage(this.#canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    return new Promise((done) => made.toBlob(done, "image/png"));
  }

  #tools() {
    const size = make("input", { type: "range", min: 0.02, max: 0.5, step: 0.01, aria: { label: t("brush_size") } });
    size.value = this.#part;
    size.oninput = () => (this.#part = Number(size.value));
    const erase = button(t("erase"), { kind: "small", aria: { pressed: "false" } });
    erase.onclick = () => {
      this.#erasing = !this.#erasing;
      erase.setAttribute("aria-pressed", String(this.#erasing));
    };
    return make(
      "div", { className: "mask-tools" },
      make("label", { className: "inline" }, t("brush"), size), erase,
      button(t("invert"), { drawing: "invert", kind: "small", onclick: () => this.#invert() }),
      button(t("undo"), { drawing: "undo", kind: "small", onclick: () => this.undo() }),
      button(t("clear"), { kind: "small", onclick: () => this.#clear() }),
      make("span", { className: "inline" }, ...zoomTools(this.#view, this.#stage)),
    );
  }

  get #brush() {
    return this.#part * Math.min(this.#canvas.width, this.#canvas.height);
  }

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    const scale = this.#canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  }

  #begin(event) {
    event.preventDefault();
    this.#canvas.setPointerCapture(event.pointerId);
    this.#canvas.focus({ preventScroll: true });
    this.#remember();
    this.#at = this.#place(event);
    this.drawing = true;
    this.#stroke(this.#at, this.#at);
  }

  #move(event) {
    const next = this.#place(event);
    this.#showRing(next);
    if (!this.drawing) return;
    this.#stroke(this.#at, next);
    this.#at = next;
  }

  #end() {
    if (!this.drawing) return;
    this.drawing = false;
    this.#changed();
  }

  #stroke([fromX, fromY], [toX, toY]) {
    const context = this.#context;
    context.globalCompositeOperation = this.#erasing ? "destination-out" : "source-over";
    context.strokeStyle = PAINT;
    context.lineWidth = this.#brush;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(fromX, fromY);
    context.lineTo(toX + 0.01, toY);
    context.stroke();
    context.globalCompositeOperation = "source-over";
  }

  #key(event) {
    if (event.key in ARROWS) {
      const [right, down] = ARROWS[event.key], far = this.#brush / 2;
      const next = [this.#at[0] + right * far, this.#at[1] + down * far];
      this.#at = [Math.min(this.#canvas.width, Math.max(0, next[0])), Math.min(this.#canvas.height, Math.max(0, next[1]))];
    } else if (event.key === " ") {
      this.#remember();
      this.#stroke(this.#at, this.#at);
      this.#changed();
    } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) this.undo();
    else return;
    event.preventDefault();
    this.#showRing(this.#at);
  }

  #showRing([x, y]) {
    const scale = this.#canvas.getBoundingClientRect().width / this.#canvas.width;
    const side = this.#brush * scale;
    Object.assign(this.#ring.style, { width: `${side}px`, height: `${side}px`, left: `${x * scale}px`, top: `${y * scale}px` });
    this.#ring.hidden = false;
  }

  #remember() {
    this.#undo.push(this.#context.getImageData(0, 0, this.#canvas.width, this.#canvas.height));
    if (this.#undo.length > MOST_UNDO) this.#undo.shift();
  }

  undo() {
    const before = this.#undo.pop();
    if (before) this.#context.putImageData(before, 0, 0);
    this.#changed();
  }

  #invert() {
    this.#remember();
    const { width, height } = this.#canvas;
    this.#context.globalCompositeOperation = "xor";
    this.#context.fillStyle = PAINT;
    this.#context.fillRect(0, 0, width, height);
    this.#context.globalCompositeOperation = "source-over";
    this.#changed();
  }

  #clear() {
    this.#remember();
    this.#context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new CustomEvent("mask"));
  }
}

customElements.define("mask-canvas", MaskCanvas);
