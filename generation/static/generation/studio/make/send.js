/** From a draft to tasks: one request, or a batch where the prompt has choices. */

import { api, onceKey } from "../core/api.js";
import { read, write } from "../core/keep.js";
import { PATHS } from "./draft.js";
import { expand } from "./wildcards.js";

const REMEMBERED = 50;

/** The tasks that were made. `pictures`: Blobs by the fields of the request. */
export async function submit(kind, text, params, pictures = {}) {
  const body = Object.keys(pictures).length ? formOf(text, params, pictures) : { text, params };
  return api(`image/${PATHS[kind]}`, { method: "POST", body, headers: onceKey() });
}

function formOf(text, params, pictures) {
  const form = new FormData();
  if (text !== null) form.append("text", text); // a picture that is only processed has none
  form.append("params", JSON.stringify(params));
  for (const [field, blob] of Object.entries(pictures)) form.append(field, blob, `${field}.png`);
  return form;
}

/** Sends a draft. Returns the new tasks, or as many of them as a batch answers with. */
export async function sendDraft(draft) {
  const { kind, text } = draft.values;
  const texts = expand(text);
  remember(text);
  if (texts.length === 1 || kind !== "text2img") {
    const made = [];
    for (const one of texts) made.push(await submit(kind, one, draft.params(), draft.neededPictures()));
    return made;
  }
  const body = { texts, params: { ...draft.params() } };
  const batch = await api("image/batch-generate", { method: "POST", body, headers: onceKey() });
  return Promise.all(batch.tasks.map((line) => api(`image/task/${line.task_id}`)));
}

export const earlierPrompts = () => read("prompts", []);

function remember(text) {
  const favourites = earlierPrompts().filter((one) => one.kept);
  const others = earlierPrompts().filter((one) => !one.kept && one.text !== text);
  const again = favourites.some((one) => one.text === text);
  write("prompts", [...favourites, ...(again ? [] : [{ text, kept: false }]), ...others].slice(0, REMEMBERED));
}

export function keepPrompt(text, kept) {
  write("prompts", earlierPrompts().map((one) => (one.text === text ? { text, kept } : one)));
}
