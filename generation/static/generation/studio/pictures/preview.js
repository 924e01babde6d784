/** What the server will make of a picture, shown before anything is spent. */

import { pictureOf, request } from "../core/api.js";
import { openDialog } from "../core/dialog.js";
import { make } from "../core/dom.js";
import { t } from "../core/texts.js";
import { tasks } from "../watch/tasks.js";

const LARGEST = 1024; // px a side: the server shows no more

/** The answer of the API for a picture, as an image element. */
async function shown(blob, asked, alt) {
  const answer = await request("/api/v1/image/preview", { method: "POST", body: { image: await textOf(blob), ...asked } });
  const image = make("img", { src: URL.createObjectURL(await answer.blob()), alt });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  return image;
}

/** The control picture beside its photo. */
export async function showControl(place, blob, controlType) {
  place.replaceChildren(make("span", { className: "skeleton" }));
  try {
    place.replaceChildren(await shown(blob, { control_type: controlType }, t("control_preview")));
  } catch (error) {
    place.replaceChildren(make("p", { className: "hint warning" }, error.message));
  }
}

/** The watermark on the picture to start from, else on the newest one, else on a plain one of the size asked for. */
export async function showWatermark(text, { given, sides }) {
  const image = await shown(given ?? (await newest()) ?? (await plain(sides)), { watermark: { kind: "text", text } }, t("watermark_preview"));
  openDialog(t("watermark_preview"), make("div", { className: "shown-mark" }, image), { className: "large" });
}

async function newest() {
  const done = [...tasks.entries.values()].map(({ task }) => task).find((task) => task.outputs.length);
  return done ? pictureOf(done.task_id, done.outputs[0].index, "medium").catch(() => null) : null;
}

function plain([width, height]) {
  const canvas = make("canvas", { width, height }), paint = canvas.getContext("2d");
  const shade = paint.createLinearGradient(0, 0, width, height);
  shade.addColorStop(0, "#cbd5e1");
  shade.addColorStop(1, "#475569");
  paint.fillStyle = shade;
  paint.fillRect(0, 0, width, height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

async function textOf(blob) {
  const bitmap = await createImageBitmap(blob);
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = make("canvas", { width: Math.round(bitmap.width * scale), height: Math.round(bitmap.height * scale) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png").split(",")[1];
}
