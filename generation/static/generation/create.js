"use strict";

const TEXTS = {
  en: {
    docs: "API docs", logout: "Log out", key: "API key", login: "Log in", keyhelp: "Your key is exchanged for a session of this browser and is not stored in it.", prompt: "Prompt",
    negative: "Negative prompt", style: "Style", model: "Model", size: "Size", count: "Number of images", generate: "Generate", history: "History",
    more: "Load more", none: "None", download: "Download", again: "Reuse prompt", cancel: "Cancel", language: "中文", automatic: "Default",
    queued: "Queued", running: "Generating", succeeded: "Done", failed: "Failed", canceled: "Canceled", expired: "Expired",
    away: "The server can't be reached. Check your connection and try again.", badkey: "Invalid API key.",
  },
  zh: {
    docs: "API 文档", logout: "退出登录", key: "API 密钥", login: "登录", keyhelp: "密钥仅用于换取此浏览器的会话，不会保存在浏览器中。", prompt: "提示词", negative: "反向提示词",
    style: "风格", model: "模型", size: "尺寸", count: "图片数量", generate: "生成", history: "历史记录", more: "加载更多", none: "无", download: "下载",
    again: "复用提示词", cancel: "取消", language: "English", automatic: "默认", queued: "排队中", running: "生成中", succeeded: "已完成", failed: "失败",
    canceled: "已取消", expired: "已过期", away: "无法连接服务器，请检查网络后重试。", badkey: "API 密钥无效。",
  },
};
const SIZES = ["256x256", "512x512", "768x768", "1024x1024", "768x512", "512x768", "1024x768", "768x1024", "1536x1024", "2048x2048"];
const $ = (id) => document.getElementById(id);
let language = localStorage.getItem("language") || (navigator.language.startsWith("zh") ? "zh" : "en");
localStorage.removeItem("key");  // of an earlier version of this page
let signedIn = document.body.dataset.session === "yes";
let catalogue = { models: [], styles: [], side: 1024, images: 4 };
let cursor = "";

/** An element with attributes and children. Strings become text, never markup. */
function make(tag, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}

const label = (name) => TEXTS[language][name] ?? name;

/** Django's token: other sites can't read it. Read anew each time, as a login to the admin changes it. */
const csrfToken = () => document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? "";

/** Call the API and return the data of its answer. Throws an Error with a message for the user. */
async function api(path, options = {}) {
  const headers = { "X-CSRFToken": csrfToken(), "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Error(label("away"));
  }
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body.data;
  const faults = (body.data?.errors ?? []).map((fault) => fault.message);
  throw Object.assign(new Error(faults.join("\n") || body.message || String(response.status)), { status: response.status });
}

function showTexts() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = label(element.dataset.text);
  $("language").textContent = label("language");
  fillChoices();
}

function fill(select, options) {
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => value === before)) select.value = before;
}

function fillChoices() {
  const form = $("prompt-form");
  const titleOf = (style) => (language === "zh" && style.title_zh) || style.title;
  fill(form.style, [["", label("none")], ...catalogue.styles.map((style) => [style.name, titleOf(style)])]);
  fill(form.model, [["", label("automatic")], ...catalogue.models.map((model) => [model.name, model.title])]);
  fill(form.count, Array.from({ length: catalogue.images }, (_, index) => [String(index + 1), String(index + 1)]));
  fillSizes();
}

/** Offer the sizes that the chosen model and the plan allow. */
function fillSizes() {
  const model = catalogue.models.find((one) => one.name === $("prompt-form").model.value) ?? catalogue.models[0];
  const low = model?.min_side ?? 256, high = Math.min(model?.max_side ?? 1024, catalogue.side);
  const fits = (size) => size.split("x").every((side) => Number(side) >= low && Number(side) <= high);
  fill($("prompt-form").size, [["", label("automatic")], ...SIZES.filter(fits).map((size) => [size, size.replace("x", " × ")])]);
}

async function start() {
  $("login").hidden = signedIn;
  $("main").hidden = $("logout").hidden = !signedIn;
  if (!signedIn) return;
  try {
    const [models, styles, plans] = await Promise.all(["models", "styles", "plans"].map((name) => api(`/api/v1/${name}`)));
    const plan = plans.items.find((one) => one.name === plans.current);
    catalogue = { models: models.items, styles: styles.items, side: plan.max_side, images: plan.max_images };
    fillChoices();
    await showHistory(true);
  } catch (error) {
    if (error.status === 401) return logOut(label("badkey"));
    $("error").textContent = error.message;
  }
}

async function logIn(event) {
  event.preventDefault();
  const field = event.target.key;
  try {
    await api("/session", { method: "POST", body: JSON.stringify({ key: field.value.trim() }) });
  } catch (error) {
    return alert(error.status === 401 ? label("badkey") : error.message);
  }
  field.value = "";
  signedIn = true;
  return start();
}

async function logOut(why = "") {
  await api("/session", { method: "DELETE" }).catch(() => undefined);
  signedIn = false;
  $("history").replaceChildren();
  $("current").replaceChildren();
  start();
  if (why) alert(why);
}

/** One task: its pictures or its status, its prompt, and links. */
function card(task, large = false) {
  const pictures = task.outputs.map((output) =>
    make("a", { href: output.url, target: "_blank" }, make("img", { src: large ? output.url : output.thumbnail_url, alt: task.input.text, loading: "lazy" })));
  const links = make("div", { className: "links" });
  if (task.outputs.length) links.append(...task.outputs.map((output) => make("a", { href: output.url, download: `${task.task_id}-${output.index}.${output.format}` }, label("download"))));
  links.append(make("a", { href: "#", onclick: (event) => (event.preventDefault(), reusePrompt(task)) }, label("again")));
  const shown = large ? make("div", { className: "pictures" }, ...pictures) : pictures[0] ?? make("p", { className: "state" }, label(task.status));
  const caption = task.error ? `${task.input.text} – ${task.error.message}` : task.input.text;
  return make("div", { className: "task" }, shown, make("p", { title: task.input.text }, caption), links);
}

function reusePrompt(task) {
  const form = $("prompt-form"), model = task.input.model.split("@")[0];
  form.text.value = task.input.text;
  form.style.value = task.input.style ?? "";
  form.model.value = catalogue.models.some((one) => one.name === model) ? model : "";
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

/** Show a task's progress from server-sent events until it has ended. */
async function watch(task) {
  const bar = make("progress", { max: 100, value: task.progress });
  const state = make("p", {}, label(task.status));
  const stop = make("a", { href: "#" }, label("cancel"));
  stop.onclick = (event) => (event.preventDefault(), api(`/api/v1/image/task/${task.task_id}/cancel`, { method: "POST" }).catch(() => undefined));
  $("current").replaceChildren(make("div", { className: "task" }, bar, state, make("p", {}, task.input.text), make("div", { className: "links" }, stop)));
  const token = await api(`/api/v1/image/task/${task.task_id}/events/token`, { method: "POST" });
  await new Promise((ended) => {
    const source = new EventSource(new URL(token.url, location.href));
    const show = (status, progress) => {
      if (status) state.textContent = label(status);
      if (progress !== undefined) bar.value = progress;
    };
    source.addEventListener("task", (event) => ((data) => show(data.status, data.progress))(JSON.parse(event.data)));
    source.addEventListener("status", (event) => show(JSON.parse(event.data).status));
    source.addEventListener("progress", (event) => show("running", JSON.parse(event.data).progress));
    source.addEventListener("end", () => (source.close(), ended()));
  });
  $("current").replaceChildren(card(await api(`/api/v1/image/task/${task.task_id}`), true));
  await showHistory(true);
}

async function generate(event) {
  event.preventDefault();
  const form = $("prompt-form"), button = form.querySelector("button"), params = { num_images: Number(form.count.value) };
  if (form.style.value) params.style = form.style.value;
  if (form.model.value) params.model = form.model.value;
  if (form.size.value) params.resolution = form.size.value;
  if (form.negative.value) params.negative_text = form.negative.value;
  $("error").textContent = "";
  button.disabled = true;
  try {
    await watch(await api("/api/v1/image/generate", { method: "POST", body: JSON.stringify({ text: form.text.value, params }) }));
  } catch (error) {
    $("error").textContent = error.message;
  }
  button.disabled = false;
}

$("prompt-form").addEventListener("submit", generate);
$("prompt-form").model.addEventListener("change", fillSizes);
$("more").addEventListener("click", () => showHistory(false));
$("logout").addEventListener("click", () => logOut());
$("language").addEventListener("click", () => {
  language = language === "en" ? "zh" : "en";
  localStorage.setItem("language", language);
  showTexts();
  if (signedIn) showHistory(true).catch(() => undefined);
});
$("login").addEventListener("submit", logIn);
showTexts();
start();
