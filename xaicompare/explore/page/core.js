// What every view needs: elements, the state and its address, and questions to the server.

/** An element; children that are strings become text, never markup. */
export function h(tag, props = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key in made && !key.startsWith("aria") && key !== "list") made[key] = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** An element of a drawing. */
export function s(tag, props = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(props)) if (value !== null && value !== undefined) made.setAttribute(key, value);
  made.append(...children.flat());
  return made;
}

export const $ = (id) => document.getElementById(id);

export let about = null;
export async function learn() {
  about = await (await fetch("/api/about")).json();
  return about;
}

// ---- the state, and its address ----

const listeners = new Set();
export const state = {};

const NUMBERS = ["target", "against"];
const WORDS = { view: "photo", order: "most", fill: "mean", composite: "epsilon-plus-flat", layer: null, inside: null };
const OWN = "xaicompare.own";

/** The settings that the address holds; what it lacks is as usual. */
export function read() {
  const given = new URLSearchParams(location.search);
  for (const [key, usual] of Object.entries(WORDS)) state[key] = given.get(key) || usual;
  for (const key of NUMBERS) state[key] = /^\d+$/.test(given.get(key) || "") ? Number(given.get(key)) : null;
  const share = Number(given.get("share") ?? 0.2);
  state.share = share >= 0 && share <= 1 ? share : 0.2;
  const over = Number(given.get("over") ?? 0.85);
  state.over = over >= 0 && over <= 1 ? over : 0.85;
  const known = new Set(about.methods.map((each) => each.method));
  const methods = (given.get("methods") || "").split(",").filter((name) => known.has(name));
  state.methods = methods.length ? methods : about.usual.slice();
  const rules = (given.get("rules") || "").split(",").filter((name) => about.rules.includes(name));
  state.rules = rules.length ? rules : about.usual_rules.slice();
  state.strokes = unpacked(given.get("drawn") || "");
  state.digit = /^\d+$/.test(given.get("digit") || "") ? Number(given.get("digit")) : null;
  state.truth = /^\d$/.test(given.get("truth") || "") ? Number(given.get("truth")) : null;
  state.image = about.images.length ? { example: Math.min(Number(given.get("image")) || 0, about.images.length - 1) } : null;
  if (given.get("image") === "own") state.image = kept() || state.image;
  if (state.view === "draw" && !about.draw) state.view = "photo";
  if (state.view === "two" && !about.second) state.view = "photo";
}

/** One's own image, as this tab of the browser remembers it. */
function kept() {
  try {
    const found = JSON.parse(sessionStorage.getItem(OWN) || "null");
    return found && found.size === about.size ? found : null;
  } catch {
    return null;
  }
}

/** Changes settings, writes them into the address, and tells whoever listens. */
export function set(changes, { quiet = false } = {}) {
  Object.assign(state, changes);
  if (changes.image && changes.image.square) {
    try {
      sessionStorage.setItem(OWN, JSON.stringify(changes.image));
    } catch {
      // too large for the browser: a reload begins with the first image
    }
  }
  write();
  if (!quiet) for (const listener of listeners) listener(changes);
}

export const listen = (listener) => listeners.add(listener);

function write() {
  const made = new URLSearchParams();
  made.set("view", state.view);
  for (const [key, usual] of Object.entries(WORDS)) if (key !== "view" && state[key] !== null && state[key] !== usual) made.set(key, state[key]);
  for (const key of NUMBERS) if (state[key] !== null) made.set(key, state[key]);
  if (state.share !== 0.2) made.set("share", state.share);
  if (state.over !== 0.85) made.set("over", state.over);
  if (state.methods.join() !== about.usual.join()) made.set("methods", state.methods.join());
  if (state.rules.join() !== about.usual_rules.join()) made.set("rules", state.rules.join());
  if (state.strokes.length) made.set("drawn", packed(state.strokes));
  if (state.digit !== null) made.set("digit", state.digit);
  if (state.truth !== null) made.set("truth", state.truth);
  if (state.image) made.set("image", state.image.square ? "own" : state.image.example);
  history.replaceState(null, "", `?${made.toString().replaceAll("%2C", ",").replaceAll("%3A", ":")}`);
}

// Strokes in the address: points of whole numbers from 0 to 999, two characters each number.
const packed = (strokes) => strokes.map((stroke) => stroke.flat().map((each) => each.toString(36).padStart(2, "0")).join("")).join("-");
function unpacked(text) {
  if (!/^[0-9a-z-]*$/.test(text)) return [];
  const strokes = text.split("-").map((part) => {
    const numbers = (part.match(/../g) || []).map((each) => parseInt(each, 36)).filter((each) => each < 1000);
    return Array.from({ length: numbers.length >> 1 }, (_, i) => [numbers[2 * i], numbers[2 * i + 1]]);
  });
  return strokes.filter((stroke) => stroke.length);
}

// ---- questions ----

const person = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** The settings of the state that the server knows. */
export function question(more = {}) {
  const image = state.image && state.image.square ? { square: state.image.square } : state.image;
  return {
    image, target: state.target, against: state.against, methods: state.methods, layer: state.layer, order: state.order,
    fill: state.fill, share: state.share, composite: state.composite, inside: state.inside, ...more,
  };
}

async function post(path, asked, signal) {
  const answer = await fetch(path, {
    method: "POST", signal, body: JSON.stringify(asked), headers: { "content-type": "application/json", "x-person": person },
  });
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.error || `The server answered ${answer.status}.`);
}

/** Lines of an answer, each as soon as it is there. */
export async function* lines(path, asked, signal) {
  const reader = (await post(path, asked, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read();
    const parts = (rest + (value || "")).split("\n");
    rest = parts.pop();
    for (const part of parts) {
      const told = JSON.parse(part);
      if (told.stopped) throw new Error(told.stopped);
      yield told;
    }
    if (done) return;
  }
}

/** The first line of an answer. */
export async function answer(path, asked, signal) {
  for await (const told of lines(path, asked, signal)) return told;
  throw new Error("The server answered nothing.");
}

export const text = async (path, asked) => (await post(path, asked)).text();
export const blob = async (path, asked) => (await post(path, asked)).blob();

/** What became of a file: the square that the network sees. */
export async function uploaded(file) {
  const answer = await fetch("/api/upload", { method: "POST", body: file, headers: { "x-person": person } });
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}

// ---- words ----

export const percent = (share, digits = 1) => (share > 0 && share < 0.001 ? "below 0.1 %" : `${(100 * share).toFixed(digits)} %`);
export const number = (value) => (Math.abs(value) >= 0.01 || value === 0 ? value.toPrecision(3) : value.toExponential(1)).replaceAll("-", "−");
export const seconds = (value) => (value < 0.01 ? "below 0.01 s" : value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(0)} s`);
export const named = (target) => about.classes[target] ?? `class ${target}`;

/** What happens a while after the last call. */
export function later(work, wait) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), wait);
  };
}

/** One question at a time: a new one ends the one before. */
export class Asking {
  #control = null;
  async run(work) {
    this.#control?.abort();
    const control = (this.#control = new AbortController());
    try {
      await work(control.signal);
      return !control.signal.aborted;
    } catch (error) {
      if (control.signal.aborted) return false;
      throw error;
    }
  }
  stop() {
    this.#control?.abort();
  }
}

/** Tells what can't be done, or nothing. */
export function complain(message) {
  $("error").hidden = !message;
  $("error").textContent = message || "";
}

/** How far a view is. */
export function progress(told, done = null, all = null) {
  $("status").textContent = told;
  $("progress").hidden = done === null;
  if (done !== null) Object.assign($("progress"), { max: all, value: done });
}

/** A map over its image, as strongly as the page says. */
export function stack(base, map, label) {
  return h("span.stack", {}, h("img.base", { src: base, alt: "" }), h("img.map", { src: map, alt: label }));
}
