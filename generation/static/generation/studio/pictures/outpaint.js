/** Extending a picture: its frame is dragged, or typed in percent of the picture, and what is new is painted. */

import { openDialog } from "../core/dialog.js";
import { button, field, make } from "../core/dom.js";
import { t } from "../core/texts.js";

const SIDES = ["left", "top", "right", "bottom"];
const MOST = 100; // percent of the picture that a side may grow
const STEP = 8; // px: sides of pictures are multiples
const OVERLAP = 0.02; // of the shorter side: repainted within the old picture, so that no seam is seen
const BLUR = 24; // px

/** Asks how far each side grows. Resolves with {image, mask, size} as Blobs and "WxH", or null. */
export function askOutpaint(blob, { low, high }) {
  return new Promise((chosen) => {
    const grown = { left: 0, top: 0, right: 0, bottom: 0 };
    const image = make("img", { src: URL.createObjectURL(blob), alt: "" });
    const frame = make("div", { className: "frame" });
    const stage = make("div", { className: "outpaint" }, image, frame);
    const size = make("output", {});
    const boxes = SIDES.map((side) => make("input", { type: "number", min: 0, max: MOST, step: 1, value: 0, name: side, oninput: () => grow(side, Number(boxes[SIDES.indexOf(side)].value)) }));
    const go = button(t("extend"), { kind: "primary", type: "submit", disabled: true });
    const target = () => sizeOf(image, grown, { low, high });
    const grow = (side, percent) => {
      grown[side] = Math.round(Math.max(0, Math.min(MOST, percent || 0)));
      if (document.activeElement !== boxes[SIDES.indexOf(side)]) boxes[SIDES.indexOf(side)].value = grown[side];
      placeFrame(frame, image, grown);
      const { width, height } = target();
      size.textContent = `${width} × ${height}`;
      go.disabled = SIDES.every((name) => grown[name] === 0);
    };
    frame.append(...SIDES.map((side) => handle(side, image, grow)));
    const done = async (event) => {
      event.preventDefault();
      const made = await extended(image, grown, target());
      chosen(made);
      dialog.close();
    };
    const form = make("form", { className: "outpaint-form", onsubmit: done }, stage, make("div", { className: "grid-4" }, ...SIDES.map((side, at) => field(t(`side_${side}`), boxes[at]))),
      make("div", { className: "spread" }, make("span", { className: "hint" }, t("new_size"), " ", size), go));
    const dialog = openDialog(t("extend_picture"), form, { className: "large" });
    image.addEventListener("load", () => grow("left", 0), { once: true });
    dialog.addEventListener("close", () => {
      URL.revokeObjectURL(image.src);
      chosen(null);
    });
  });
}

/** The frame round the picture, in px of the stage. */
function placeFrame(frame, image, grown) {
  const { offsetLeft: left, offsetTop: top, offsetWidth: width, offsetHeight: height } = image;
  Object.assign(frame.style, {
    left: `${left - (grown.left / 100) * width}px`, top: `${top - (grown.top / 100) * height}px`,
    width: `${width * (1 + (grown.left + grown.right) / 100)}px`, height: `${height * (1 + (grown.top + grown.bottom) / 100)}px`,
  });
}

function handle(side, image, grow) {
  const made = make("span", { className: `handle of-${side}`, aria: { hidden: "true" } });
  made.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    made.setPointerCapture(event.pointerId);
  });
  made.addEventListener("pointermove", (event) => {
    if (!made.hasPointerCapture(event.pointerId)) return;
    const box = image.getBoundingClientRect();
    const far = {
      left: (box.left - event.clientX) / box.width, right: (event.clientX - box.right) / box.width,
      top: (box.top - event.clientY) / box.height, bottom: (event.clientY - box.bottom) / box.height,
    }[side];
    grow(side, far * 100);
  });
  return made;
}

/** The new picture's size within the limits, and the scale of the old one in it. */
function sizeOf(image, grown, { low, high }) {
  const wide = image.naturalWidth * (1 + (grown.left + grown.right) / 100);
  const tall = image.naturalHeight * (1 + (grown.top + grown.bottom) / 100);
  const most = Math.min(1, high / Math.max(wide, tall));
  const scale = Math.max(most, Math.min(low / Math.min(wide, tall), high / Math.max(wide, tall)));
  const even = (side) => Math.max(STEP, Math.floor((side * scale) / STEP) * STEP);
  return { width: even(wide), height: even(tall), scale };
}

/** The picture in its place over a blurred one that fills the rest, and the mask of what is new. */
async function extended(image, grown, { width, height, scale }) {
  const old = { left: (grown.left / 100) * image.naturalWidth * scale, top: (grown.top / 100) * image.naturalHeight * scale, width: image.naturalWidth * scale, height: image.naturalHeight * scale };
  const picture = make("canvas", { width, height }), mask = make("canvas", { width, height });
  const paint = picture.getContext("2d"), cover = mask.getContext("2d");
  paint.filter = `blur(${BLUR}px)`;
  paint.drawImage(image, -BLUR, -BLUR, width + 2 * BLUR, height + 2 * BLUR);
  paint.filter = "none";
  paint.drawImage(image, old.left, old.top, old.width, old.height);
  const inner = OVERLAP * Math.min(old.width, old.height);
  const kept = {
    left: old.left + (grown.left ? inner : 0), top: old.top + (grown.top ? inner : 0),
    right: grown.right ? old.left + old.width - inner : width, bottom: grown.bottom ? old.top + old.height - inner : height,
  };
  cover.fillStyle = "#fff";
  cover.fillRect(0, 0, width, height);
  cover.fillStyle = "#000";
  cover.fillRect(kept.left, kept.top, kept.right - kept.left, kept.bottom - kept.top);
  const blobOf = (canvas) => new Promise((done) => canvas.toBlob(done, "image/png"));
  return { image: await blobOf(picture), mask: await blobOf(mask), size: `${width}x${height}` };
}
