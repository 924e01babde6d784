/** The open tasks of the account, wherever they were made: found again from the API when the page opens, followed by
 * events where a few run and by one list for all others, as a browser has six connections to a server.
 *
 * Events: "added", "recalled", "changed" and "ended" with the task's entry as detail.
 */

import { api } from "../core/api.js";

const STREAMS = 3;
const LOOK_MS = 1500;
const PLACE_MS = 4000; // how often the place in the queue is asked for
const RECENT = 12; // ended tasks that are shown when the page opens
const OPEN = ["queued", "running"];

class Tasks extends EventTarget {
  entries = new Map(); // id -> {task, step, steps, preview, began, streamed}
  #streams = new Map(); // id -> EventSource
  #timer = 0;

  /** Looks for open tasks, and goes on looking while there are any. */
  async start() {
    document.addEventListener("visibilitychange", () => document.hidden || this.#look());
    await this.#look();
    const { items } = await api(`image/tasks?limit=${RECENT}`).catch(() => ({ items: [] }));
    for (const task of items) if (!OPEN.includes(task.status)) this.#remember(task);
  }

  /** An ended task of before, to go on from; it comes after all others. */
  #remember(task) {
    if (this.entries.has(task.task_id)) return;
    const entry = { task, step: 0, steps: 0, preview: null, began: 0, asked: 0 };
    this.entries.set(task.task_id, entry);
    this.#tell("recalled", entry);
  }

  stop() {
    clearTimeout(this.#timer);
    for (const stream of this.#streams.values()) stream.close();
    this.#streams.clear();
    this.entries.clear();
  }

  add(task) {
    const known = this.entries.get(task.task_id);
    if (known) return this.#update(known, task);
    const entry = { task, step: 0, steps: task.input.steps ?? 0, preview: null, began: 0, asked: Date.now() };
    this.entries.set(task.task_id, entry);
    this.#tell("added", entry);
    this.#follow();
    this.#later();
    return entry;
  }

  get open() {
    return [...this.entries.values()].filter((entry) => OPEN.includes(entry.task.status));
  }

  async cancel(id) {
    this.#settle(await api(`image/task/${id}/cancel`, { method: "POST" }));
  }

  async retry(id) {
    return this.add(await api(`image/task/${id}/retry`, { method: "POST" }));
  }

  /** Takes an ended task from the list of what is watched. */
  dismiss(id) {
    this.entries.delete(id);
  }

  #tell(name, entry) {
    this.dispatchEvent(new CustomEvent(name, { detail: entry }));
  }

  #later() {
    clearTimeout(this.#timer);
    if (this.open.length) this.#timer = setTimeout(() => this.#look(), LOOK_MS);
  }

  async #look() {
    try {
      const { items } = await api("image/tasks?status=open&limit=100");
      const seen = new Set(items.map((task) => task.task_id));
      for (const task of items.reverse()) this.add(task);
      const gone = this.open.filter(({ task }) => !seen.has(task.task_id));
      await Promise.all(gone.map(async ({ task }) => this.#settle(await api(`image/task/${task.task_id}`))));
      await this.#askPlaces();
    } catch (error) {
      if (error.status === 401) return this.stop();
    }
    return this.#later();
  }

  /** The list has no places in the queue: they are asked one by one, for the few that come next. */
  async #askPlaces() {
    const due = this.open.filter((entry) => entry.task.status === "queued" && Date.now() - entry.asked > PLACE_MS).slice(0, 4);
    await Promise.all(due.map(async (entry) => {
      entry.asked = Date.now();
      this.#settle(await api(`image/task/${entry.task.task_id}`));
    }));
  }

  #update(entry, task) {
    const before = entry.task;
    if (!OPEN.includes(before.status)) return entry;
    entry.task = { ...task, position: task.position ?? before.position, estimated_time: task.estimated_time ?? before.estimated_time };
    if (entry.task.status === "running") entry.began ||= Date.now();
    entry.task.progress = Math.max(before.progress, task.progress);
    this.#tell("changed", entry);
    return entry;
  }

  #settle(task) {
    const entry = this.entries.get(task.task_id);
    if (!entry || !OPEN.includes(entry.task.status)) return;
    if (OPEN.includes(task.status)) {
      this.#update(entry, task);
      return;
    }
    entry.task = task;
    this.#streams.get(task.task_id)?.close();
    this.#streams.delete(task.task_id);
    this.#tell("ended", entry);
    this.#follow();
  }

  /** Streams for the first tasks: those that run before those that wait. */
  #follow() {
    const order = [...this.open].sort((one, other) => (other.task.status === "running") - (one.task.status === "running"));
    for (const entry of order) {
      if (this.#streams.size >= STREAMS) return;
      if (!this.#streams.has(entry.task.task_id)) this.#stream(entry);
    }
  }

  #stream(entry) {
    const id = entry.task.task_id;
    const source = new EventSource(`/api/v1/image/task/${id}/events`);
    const on = (name, take) => source.addEventListener(name, (event) => take(JSON.parse(event.data)));
    this.#streams.set(id, source);
    on("task", (task) => (OPEN.includes(task.status) ? this.#update(entry, task) : this.#settle(task)));
    on("status", ({ status }) => OPEN.includes(status) && this.#update(entry, { ...entry.task, status }));
    on("progress", ({ progress, step, steps }) => {
      Object.assign(entry, { step: step ?? entry.step, steps: steps ?? entry.steps });
      this.#update(entry, { ...entry.task, status: "running", progress });
    });
    on("preview", ({ index, jpeg }) => {
      if (index === 0) entry.preview = `data:image/jpeg;base64,${jpeg}`;
      this.#tell("changed", entry);
    });
    on("end", async () => {
      source.close();
      const task = await api(`image/task/${id}`).catch(() => null);
      if (task) this.#settle(task);
    });
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return;
      this.#streams.delete(id); // the list goes on telling of it
    });
  }
}

export const tasks = new Tasks();

/** Seconds that a task will probably still take; null when nothing is known. */
export function secondsLeft(entry) {
  const { task, began, asked } = entry;
  if (task.status === "running" && began && task.progress >= 10) {
    const passed = (Date.now() - began) / 1000;
    return (passed * (100 - task.progress)) / task.progress;
  }
  if (task.estimated_time === null || task.estimated_time === undefined) return null;
  return Math.max(0, task.estimated_time - (Date.now() - asked) / 1000);
}
