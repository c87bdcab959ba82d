// The chat page: a conversation over /v1/chat/completions, streamed. State lives in localStorage of this browser.

import { render } from "./markdown.js";

const $ = (id) => document.getElementById(id);
const DEMO = "octavo-demo";
const STARTERS = {
  demo: ["What is the capital of France?", "What is 17 + 25?", "Spell the word garden.", "What is Octavo?"],
  other: ["Why is the sky blue?", "Write a haiku about the sea.", "Three ideas for dinner, please.", "Explain recursion."],
};
const DEFAULTS = { system: "", temperature: "", topP: "", maxTokens: "", seed: "", apiKey: "" }; // "": the server's

const stored = (key, fallback) => {
  try { return JSON.parse(localStorage.getItem(key)) ?? fallback; } catch { return fallback; }
};
const store = (key, value) => {
  try { localStorage.setItem(key, JSON.stringify(value)); } catch { /* private windows may refuse: the chat still works */ }
};

const settings = { ...DEFAULTS, ...stored("octavo.settings", {}) };
let messages = stored("octavo.messages", []);
let model = "";
let running = null; // AbortController of the answer being written

function headers() {
  const given = { "Content-Type": "application/json" };
  if (settings.apiKey) given.Authorization = "Bearer " + settings.apiKey;
  return given;
}

// ---------------------------------------------------------------- settings

const FIELDS = [["system", "system"], ["temperature", "temperature"], ["top-p", "topP"], ["max-tokens", "maxTokens"],
  ["seed", "seed"], ["api-key", "apiKey"]];

function bindSettings() {
  for (const [id, key] of FIELDS) {
    const field = $(id);
    field.value = settings[key];
    field.addEventListener("input", () => {
      settings[key] = field.value;
      store("octavo.settings", settings);
      if (key === "apiKey") findModel();
    });
  }
  $("settings").addEventListener("submit", (e) => e.preventDefault());
  $("show-settings").addEventListener("click", () => {
    const panel = $("settings");
    panel.hidden = !panel.hidden;
    $("show-settings").setAttribute("aria-expanded", String(!panel.hidden));
  });
}

// ---------------------------------------------------------------- messages on the page

function action(label, run) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = label;
  button.addEventListener("click", run);
  return button;
}

async function copy(text, button) {
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else { // pages that came over plain http from another machine have no clipboard object
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1200);
}

function addArticle(message) {
  $("messages").querySelector(".welcome")?.remove();
  const article = document.createElement("article");
  article.className = message.role;
  const bubble = document.createElement("div");
  bubble.className = "bubble";
  article.append(bubble);
  if (message.role === "assistant") {
    const meta = document.createElement("div");
    meta.className = "meta";
    article.append(meta);
  }
  $("messages").append(article);
  show(article, message);
  return article;
}

function show(article, message) {
  const [bubble, meta] = article.children;
  if (message.role !== "assistant") {
    bubble.textContent = message.content;
    return;
  }
  const writing = article.classList.contains("writing");
  render(bubble, message.content);
  bubble.hidden = !message.content && !writing;
  meta.replaceChildren();
  if (message.error) {
    const error = document.createElement("span");
    error.className = "error";
    error.textContent = message.error;
    meta.append(error);
  }
  if (message.note) meta.append(message.note);
  if (writing) return;
  if (message.content) meta.append(action("Copy", (e) => copy(message.content, e.currentTarget)));
  if (messages.at(-1) === message) meta.append(action("Again", again));
}

function redraw() {
  $("messages").replaceChildren();
  if (messages.length) messages.forEach(addArticle);
  else welcome();
  toEnd(true);
}

function welcome() {
  const box = document.createElement("div");
  box.className = "welcome";
  const title = document.createElement("h2");
  title.textContent = "Ask the model something";
  const text = document.createElement("div");
  text.textContent = "Answers come from this machine, token by token.";
  const starters = document.createElement("div");
  starters.className = "starters";
  const questions = model === DEMO ? STARTERS.demo : STARTERS.other;
  starters.append(...questions.map((s) => action(s, () => ask(s))));
  box.append(title, text, starters);
  $("messages").append(box);
}

function toEnd(always) {
  const box = $("messages");
  const near = box.scrollHeight - box.scrollTop - box.clientHeight < 160;
  if (always || near) box.scrollTop = box.scrollHeight;
}

// ---------------------------------------------------------------- talking to the server

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("The connection was lost.");
    buffer += value;
    for (let end; (end = buffer.indexOf("\n\n")) >= 0; buffer = buffer.slice(end + 2)) {
      const line = buffer.slice(0, end);
      if (!line.startsWith("data: ")) continue;
      const data = line.slice(6);
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}

/** What was said, without questions that got no answer: templates want turns to alternate. */
function past() {
  const said = [];
  for (const { role, content } of messages) {
    if (role === "assistant" && !content) said.pop();
    else said.push({ role, content });
  }
  if (settings.system.trim()) said.unshift({ role: "system", content: settings.system });
  return said;
}

function body() {
  const request = { model, messages: past(), stream: true,
    stream_options: { include_usage: true, continuous_usage_stats: true } };
  const numbers = { temperature: settings.temperature, top_p: settings.topP, max_tokens: settings.maxTokens, seed: settings.seed };
  for (const [name, text] of Object.entries(numbers)) if (String(text).trim()) request[name] = Number(text);
  return JSON.stringify(request);
}

function figures(tokens, first, atFirst, rest) {
  const rate = tokens > atFirst && rest >= 100 ? `${Math.round((tokens - atFirst) * 1000 / rest)} tokens/s` : "";
  return [`${tokens} token${tokens === 1 ? "" : "s"}`, rate, `first after ${Math.round(first)} ms`].filter(Boolean).join(" · ");
}

async function answer() {
  const request = body();
  const message = { role: "assistant", content: "" };
  messages.push(message);
  const article = addArticle(message);
  article.classList.add("writing");
  running = new AbortController();
  busy(true);
  const begin = performance.now();
  let first = 0, atFirst = 0, usage = null;
  try {
    const response = await fetch("v1/chat/completions", { method: "POST", headers: headers(), body: request, signal: running.signal });
    if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error?.message ?? `The server answered ${response.status}.`);
    for await (const chunk of events(response)) {
      if (chunk.error) throw new Error(chunk.error.message);
      usage = chunk.usage ?? usage;
      const text = chunk.choices[0]?.delta?.content;
      if (!text) continue;
      if (!first) [first, atFirst] = [performance.now(), usage.completion_tokens];
      message.content += text;
      render(article.firstChild, message.content);
      toEnd(false);
    }
  } catch (error) {
    if (error.name === "AbortError") message.note = "stopped";
    else message.error = error instanceof TypeError ? "The server does not answer." : error.message;
  }
  if (usage && first) {
    const numbers = figures(usage.completion_tokens, first - begin, atFirst, performance.now() - first);
    message.note = message.note ? `${message.note} · ${numbers}` : numbers;
  }
  running = null;
  article.classList.remove("writing");
  show(article, message);
  store("octavo.messages", messages);
  busy(false);
}

function busy(on) {
  $("send").hidden = on;
  $("stop").hidden = !on;
  if (!on) $("input").focus();
}

async function ask(text) {
  if (running || !text.trim()) return;
  const last = $("messages").lastElementChild;
  const message = { role: "user", content: text.trim() };
  const previous = messages.at(-1);
  messages.push(message);
  if (previous && last?.localName === "article") show(last, previous); // the older answer can no longer be redone
  addArticle(message);
  toEnd(true);
  await answer();
}

async function again() {
  if (running) return;
  messages.pop();
  $("messages").lastElementChild.remove();
  await answer();
}

function say(state, text) {
  const dot = $("health");
  dot.className = "dot " + state;
  dot.title = text;
  dot.setAttribute("aria-label", text);
}

async function checkHealth() {
  try {
    const { ok } = await fetch("health");
    say(ok ? "up" : "down", ok ? "The server is ready" : "The engine has ended");
    if (ok && !model) await findModel();
  } catch {
    say("down", "The server does not answer");
  }
}

async function findModel() {
  const list = await fetch("v1/models", { headers: headers() }).catch(() => null);
  model = list?.ok ? (await list.json()).data[0].id : "";
  const chip = $("model");
  chip.textContent = model.split("/").at(-1) || (list?.status === 401 ? "API key needed" : "no model");
  chip.title = model || "Set the API key in the settings";
  if (!messages.length) redraw();
}

// ---------------------------------------------------------------- start

const input = $("input");
input.addEventListener("input", () => {
  input.style.height = "auto";
  input.style.height = input.scrollHeight + "px";
});
input.addEventListener("keydown", (e) => {
  if (e.key === "Enter" && !e.shiftKey && !e.isComposing) {
    e.preventDefault();
    $("composer").requestSubmit();
  }
});
document.addEventListener("keydown", (e) => { if (e.key === "Escape") running?.abort(); });
$("composer").addEventListener("submit", (e) => {
  e.preventDefault();
  if (running) return;
  const text = input.value;
  input.value = "";
  input.style.height = "auto";
  ask(text);
});
$("stop").addEventListener("click", () => running?.abort());
$("new-chat").addEventListener("click", () => {
  running?.abort();
  messages = [];
  store("octavo.messages", messages);
  redraw();
  input.focus();
});
$("base-url").textContent = new URL("v1", location.href).href;
bindSettings();
redraw();
checkHealth();
setInterval(() => { if (!document.hidden) checkHealth(); }, 30000);
