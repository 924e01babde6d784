/** Calls of the public API with the session of this page. What the caller reads on failure is in words. */

import { t, has } from "./texts.js";

const LONGEST_WAIT_S = 8;
const RETRIES = 3;

/** Why a call failed. `faults`: {field, code, message} each; `status` is 0 when the server was not reached. */
export class ApiFailure extends Error {
  constructor(status, message, faults = []) {
    super(message);
    Object.assign(this, { status, faults });
  }
}

/** Django's token. Other sites can't read it; read anew each time, as a login to the admin changes it. */
const csrfToken = () => document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";

const pause = (seconds) => new Promise((over) => setTimeout(over, 1000 * seconds));

async function send(path, { method = "GET", body, headers = {}, ...rest } = {}) {
  const form = body instanceof FormData;
  const sent = { "X-CSRFToken": csrfToken(), ...(body && !form ? { "Content-Type": "application/json" } : {}), ...headers };
  const content = body === undefined || form ? body : JSON.stringify(body);
  try {
    return await fetch(path, { method, body: content, headers: sent, ...rest });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiFailure(0, t("away"));
  }
}

/** The answer of a call, whatever it holds. Raises ApiFailure. One that a limit stopped is sent again when it may be. */
export async function request(path, options = {}) {
  for (let tries = 1; ; tries += 1) {
    const response = await send(path, options);
    if (response.ok) return response;
    const wait = Number(response.headers.get("Retry-After"));
    const again = [429, 503].includes(response.status) && wait > 0 && wait <= LONGEST_WAIT_S && tries < RETRIES;
    if (!again) throw await failureOf(response);
    await pause(wait);
  }
}

async function failureOf(response) {
  const body = await response.json().catch(() => ({}));
  const faults = body.data?.errors ?? [];
  const text = faults.map(inWords).join("\n") || (has(`status_${response.status}`) ? t(`status_${response.status}`) : body.message);
  if (response.status === 401) document.dispatchEvent(new CustomEvent("signed-out"));
  return new ApiFailure(response.status, text || String(response.status), faults);
}

/** A fault in the page's language where it has words for its code, else as the API says it. */
export function inWords(fault) {
  const known = has(`fault_${fault.code}`) && document.documentElement.lang !== "en";
  return known ? `${fault.field ? `${fault.field.replace("params.", "")}: ` : ""}${t(`fault_${fault.code}`)}` : fault.message;
}

/** The data of an answer. */
export async function api(path, options = {}) {
  const response = await request(`/api/v1/${path}`, options);
  return response.status === 204 ? null : (await response.json()).data;
}

/** The bytes of a picture of a task, from this server whatever store it is in. */
export async function pictureOf(taskId, index = 0, variant = "original") {
  const asked = new URLSearchParams({ index, variant, redirect: "false" });
  const response = await request(`/api/v1/image/task/${taskId}/image?${asked}`);
  if (response.status === 202) throw new ApiFailure(202, t("archived"));
  return response.blob();
}

/** A key for a request that may be sent twice and must count once. */
export const onceKey = () => ({ "Idempotency-Key": crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}` });

/** Lets the browser save bytes under a name. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
