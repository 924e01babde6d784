"use strict";

const WORDS = {
  en: {
    docs: "API", leave: "Forget the key", key: "API key", go: "Begin", keyhelp: "The key stays in this browser.", prompt: "What is to be seen",
    negative: "What is not to be seen", style: "Style", model: "Model", size: "Size", count: "Pictures", draw: "Draw", history: "Earlier pictures",
    more: "More", none: "none", download: "Download", again: "Use again", cancel: "Cancel", language: "中文", automatic: "automatic",
    queued: "waiting", running: "being drawn", succeeded: "done", failed: "failed", canceled: "cancelled", expired: "waited too long",
    away: "The server can't be reached.", badkey: "This key is not accepted.",
  },
  zh: {
    docs: "接口文档", leave: "清除密钥", key: "API 密钥", go: "开始", keyhelp: "密钥只保存在此浏览器中。", prompt: "画面内容", negative: "不要出现的内容",
    style: "风格", model: "模型", size: "尺寸", count: "张数", draw: "生成", history: "历史图片", more: "更多", none: "无", download: "下载", again: "再次使用",
    cancel: "取消", language: "English", automatic: "自动", queued: "排队中", running: "生成中", succeeded: "完成", failed: "失败", canceled: "已取消",
    expired: "等待超时", away: "无法连接服务器。", badkey: "密钥无效。",
  },
};
const SIZES = ["256x256", "512x512", "768x768", "1024x1024", "768x512", "512x768", "1024x768", "768x1024", "1536x1024", "2048x2048"];
const $ = (id) => document.getElementById(id);
let language = localStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh" : "en");
let key = localStorage.getItem("key") || "";
let known = { models: [], styles: [], side: 1024, images: 4 };
let cursor = "";

/** An element with attributes and children; words are always text, never markup. */
function make(tag, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}

const word = (name) => WORDS[language][name] ?? name;

/** Ask the API; the answer's data. Throws an Error that people can read. */
async function api(path, options = {}) {
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error(word("away"));
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body.data;
  const faults = (body.data?.errors ?? []).map((fault) => fault.message);
  throw Object.assign(new Error(faults.join("\n") || body.message || String(response.status)), { status: response.status });
}

function showWords() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = word(element.dataset.text);
  $("language").textContent = word("language");
  fillChoices();
}

function fill(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => value === before)) select.value = before;
}

function fillChoices() {
  const form = $("ask");
  const named = (style) => (language === "zh" && style.title_zh) || style.title;
  fill(form.style, [["", word("none")], ...known.styles.map((style) => [style.name, named(style)])]);
  fill(form.model, [["", word("automatic")], ...known.models.map((model) => [model.name, model.title])]);
  fill(form.count, Array.from({ length: known.images }, (_, index) => [String(index + 1), String(index + 1)]));
  fillSizes();
}

/** The sizes that the chosen model and the plan allow. */
function fillSizes() {
  const model = known.models.find((one) => one.name === $("ask").model.value) ?? known.models[0];
  const low = model?.min_side ?? 256, high = Math.min(model?.max_side ?? 1024, known.side);
  const fits = (size) => size.split("x").every((side) => Number(side) >= low && Number(side) <= high);
  fill($("ask").size, [["", word("automatic")], ...SIZES.filter(fits).map((size) => [size, size.replace("x", " × ")])]);
}

async function begin() {
  $("enter").hidden = Boolean(key);
  $("main").hidden = $("leave").hidden = !key;
  if (!key) return;
  try {
    const [models, styles, plans] = await Promise.all(["models", "styles", "plans"].map((name) => api(`/api/v1/${name}`)));
    const plan = plans.items.find((one) => one.name === plans.current);
    known = { models: models.items, styles: styles.items, side: plan.max_side, images: plan.max_images };
    fillChoices();
    await showHistory(true);
  } catch (error) {
    if (error.status === 401) return forget(word("badkey"));
    $("fault").textContent = error.message;
  }
}

function forget(why = "") {
  key = "";
  localStorage.removeItem("key");
  $("history").replaceChildren();
  $("now").replaceChildren();
  begin();
  if (why) alert(why);
}

/** One task: pictures or progress, its words, and what can be done with it. */
function card(task, large = false) {
  const pictures = task.outputs.map((output) =>
    make("a", { href: output.url, target: "_blank" }, make("img", { src: large ? output.url : output.thumbnail_url, alt: task.input.text, loading: "lazy" })));
  const links = make("div", { className: "links" });
  if (task.outputs.length) links.append(...task.outputs.map((output) => make("a", { href: output.url, download: `${task.task_id}-${output.index}.${output.format}` }, word("download"))));
  links.append(make("a", { href: "#", onclick: (event) => (event.preventDefault(), useAgain(task)) }, word("again")));
  const shown = large ? make("div", { className: "pictures" }, ...pictures) : pictures[0] ?? make("p", { className: "state" }, word(task.status));
  const words = task.error ? `${task.input.text} – ${task.error.message}` : task.input.text;
  return make("div", { className: "task" }, shown, make("p", { title: task.input.text }, words), links);
}

function useAgain(task) {
  const form = $("ask"), model = task.input.model.split("@")[0];
  form.text.value = task.input.text;
  form.style.value = task.input.style ?? "";
  form.model.value = known.models.some((one) => one.name === model) ? model : "";
  fillSizes();
  form.size.value = SIZES.includes(task.input.resolution) ? task.input.resolution : "";
  form.text.focus();
}

async function showHistory(fresh) {
  const query = new URLSearchParams({ limit: "24", ...(fresh || !cursor ? {} : { cursor }) });
  const page = await api(`/api/v1/image/tasks?${query}`);
  const cards = page.items.map((task) => card(task));
  if (fresh) $("history").replaceChildren(...cards);
  else $("history").append(...cards);
  cursor = page.next_cursor ?? "";
  $("more").hidden = !page.has_more;
}

/** Follow a task by server-sent events until it has ended. */
async function watch(task) {
  const bar = make("progress", { max: 100, value: task.progress });
  const state = make("p", {}, word(task.status));
  const stop = make("a", { href: "#" }, word("cancel"));
  stop.onclick = (event) => (event.preventDefault(), api(`/api/v1/image/task/${task.task_id}/cancel`, { method: "POST" }).catch(() => undefined));
  $("now").replaceChildren(make("div", { className: "task" }, bar, state, make("p", {}, task.input.text), make("div", { className: "links" }, stop)));
  const token = await api(`/api/v1/image/task/${task.task_id}/events/token`, { method: "POST" });
  await new Promise((ended) => {
    const source = new EventSource(new URL(token.url, location.href));
    const tell = (status, progress) => {
      if (status) state.textContent = word(status);
      if (progress !== undefined) bar.value = progress;
    };
    source.addEventListener("task", (event) => ((data) => tell(data.status, data.progress))(JSON.parse(event.data)));
    source.addEventListener("status", (event) => tell(JSON.parse(event.data).status));
    source.addEventListener("progress", (event) => tell("running", JSON.parse(event.data).progress));
    source.addEventListener("end", () => (source.close(), ended()));
  });
  $("now").replaceChildren(card(await api(`/api/v1/image/task/${task.task_id}`), true));
  await showHistory(true);
}

async function draw(event) {
  event.preventDefault();
  const form = $("ask"), button = form.querySelector("button"), params = { num_images: Number(form.count.value) };
  if (form.style.value) params.style = form.style.value;
  if (form.model.value) params.model = form.model.value;
  if (form.size.value) params.resolution = form.size.value;
  if (form.negative.value) params.negative_text = form.negative.value;
  $("fault").textContent = "";
  button.disabled = true;
  try {
    await watch(await api("/api/v1/image/generate", { method: "POST", body: JSON.stringify({ text: form.text.value, params }) }));
  } catch (error) {
    $("fault").textContent = error.message;
  }
  button.disabled = false;
}

$("ask").addEventListener("submit", draw);
$("ask").model.addEventListener("change", fillSizes);
$("more").addEventListener("click", () => showHistory(false));
$("leave").addEventListener("click", () => forget());
$("language").addEventListener("click", () => {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem("language", language);
  showWords();
  if (key) showHistory(true).catch(() => undefined);
});
$("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  key = event.target.key.value.trim();
  localStorage.setItem("key", key);
  begin();
});
showWords();
begin();
