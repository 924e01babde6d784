/** What is done with pictures that were made: save, hand on, delete, make more like them. */

import { api, onceKey, pictureOf, request, save } from "../core/api.js";
import { notice } from "../core/notice.js";
import { t } from "../core/texts.js";
import { draft } from "../make/draft.js";
import { submit } from "../make/send.js";
import { take } from "../pictures/sources.js";
import { tasks } from "../watch/tasks.js";

const VARIATIONS = 4;
const VARIED = 0.6; // how much of a picture changes
const MOST_IN_ZIP = 1000;
const MOST_MARKED = 1000; // of one request
const waiting = new Map(); // ids that will be deleted -> timer

export async function saveOne({ task, index }) {
  const output = task.outputs[index];
  save(await pictureOf(task.task_id, output.index), `${task.task_id}-${output.index}.${output.format}`);
}

export async function saveZip(items) {
  const ids = [...new Set(items.filter(({ task }) => task.outputs.length).map(({ task }) => task.task_id))];
  if (ids.length > MOST_IN_ZIP) throw new Error(t("too_many_for_zip", { n: MOST_IN_ZIP }));
  const answer = await request("/api/v1/image/download", { method: "POST", body: { task_ids: ids } });
  save(await answer.blob(), "pictures.zip");
}

/** Pictures as requests name them. */
export const references = (items) =>
  items.filter(({ task, index }) => task.outputs[index]).map(({ task, index }) => ({ task_id: task.task_id, index: task.outputs[index].index }));

/** Approves, rejects, or (null) takes the mark away; the items hold it when it is done. */
export async function markAs(items, mark) {
  const marked = items.filter(({ task, index }) => task.outputs[index]);
  for (let at = 0; at < marked.length; at += MOST_MARKED) {
    await api("image/marks", { method: "POST", body: { pictures: references(marked.slice(at, at + MOST_MARKED)), mark } });
  }
  for (const { task, index } of marked) task.outputs[index].mark = mark;
  return marked.length;
}

export async function copyLink({ task, index }) {
  const { url } = task.outputs[index];
  try {
    await navigator.clipboard.writeText(url);
  } catch {
    prompt(t("copy_link"), url); // a page without HTTPS has no clipboard
    return;
  }
  notice(t("link_copied"));
}

/** Deletes tasks when nobody takes it back; leaving the page deletes at once. Resolves with whether it was deleted. */
export async function deleteTasks(ids) {
  for (const id of ids) waiting.set(id, true);
  const back = await notice(t("deleted", { n: ids.length }), { action: t("undo") });
  const left = ids.filter((id) => waiting.delete(id));
  if (back) return false;
  await Promise.all(left.map((id) => api(`image/task/${id}`, { method: "DELETE" })));
  return true;
}

addEventListener("pagehide", () => {
  for (const id of waiting.keys()) api(`image/task/${id}`, { method: "DELETE", keepalive: true });
  waiting.clear();
});

/** The parameters again, in the Create screen. */
export function useAgain({ task }) {
  draft.set({ kind: "text2img" });
  draft.use(task);
  location.hash = "#create";
}

export async function startFrom({ task, index }, kind = "img2img") {
  const blob = await pictureOf(task.task_id, task.outputs[index].index);
  draft.use(task);
  draft.set({ kind, loras: [], upscale: 0, watermark: "" });
  location.hash = "#create";
  await take("image", blob);
}

/** More like it: the same words with other seeds, or, of what was made from a picture, the picture again. */
export async function variations({ task, index }) {
  const params = again(task);
  if (task.kind === "text2img") {
    tasks.add(await api("image/generate", { method: "POST", body: { text: task.input.text, params }, headers: onceKey() }));
  } else {
    const image = await pictureOf(task.task_id, task.outputs[index].index);
    tasks.add(await submit("img2img", task.input.text, { ...params, strength: VARIED }, { image }));
  }
  location.hash = "#create";
}

/** The picture larger, not drawn anew. */
export async function enlarge({ task, index }) {
  const output = task.outputs[index];
  const image = await pictureOf(task.task_id, output.index);
  tasks.add(await submit("upscale", null, { scale: 2 }, { image }));
  location.hash = "#create";
}

function again(task) {
  const { input } = task;
  const names = ["resolution", "style", "negative_text", "steps", "cfg_scale", "sampler", "postprocess"];
  const same = Object.fromEntries(names.filter((name) => input[name]).map((name) => [name, input[name]]));
  const loras = input.loras.length ? { loras: input.loras } : {};
  return { ...same, ...loras, ...(input.model && { model: input.model.split("@")[0] }), num_images: Math.min(VARIATIONS, 4) };
}
