// Remove: a slider takes features away; everything was computed once, and is only shown.

import { $, about, Asking, h, lines, named, progress, question, s, set, state } from "./core.js";

const asking = new Asking();
const COLOURS = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#9a6fd0", "#56b4e9"];
const ORDERS = { most: "most important", least: "least important", random: "random" };
const FILLS = { mean: "the image's mean", black: "black", blur: "a blur", noise: "noise", linear: "noisy imputation" };

let first = null; // base, replacement and target
let made = []; // a curve for each method
let chart = null;

export const sided = true;
export const path = "remove";
export const stop = () => asking.stop();
export const asked = () => question({ against: null });

const step = () => Math.round(state.share * (about.shares.length - 1));

export function tools() {
  const orders = Object.entries(ORDERS).map(([order, words]) =>
    h("label.pill", {}, h("input", { type: "radio", name: "order", value: order, checked: state.order === order, onchange: () => set({ order }) }), words));
  const fill = h("select", { id: "fill", onchange: () => set({ fill: fill.value }) }, ...about.fills.map((each) => h("option", { value: each }, FILLS[each])));
  fill.value = state.fill;
  return [h("fieldset.pills", {}, h("legend", {}, "Removed first"), orders), h("label.field.inline", {}, "Filled with", fill)];
}

export async function draw() {
  const slider = h("input", { id: "share", type: "range", min: 0, max: about.shares.length - 1, step: 1, value: step(), "aria-label": "Share of the pixels removed", oninput: () => move(Number(slider.value)) });
  const told = h("output", { id: "share-told", htmlFor: "share" });
  chart = h("div.curves", { id: "curves" });
  const cards = h("div.sheet", { id: "removed" });
  $("view").replaceChildren(h("div.slide", {}, h("label.slide-label", { htmlFor: "share" }, "Pixels removed"), slider, told), chart,
    h("p.note", {}, "Lines: the confidence of whatever is predicted, (max − 2nd) / max. A cross: it is another class than the one explained."), cards);
  made = [];
  first = null;
  if (!state.methods.length) return progress("Choose a method.");
  const all = state.methods.length + (state.order === "random" ? 0 : 1);
  progress(`0 of ${all} curves`, 0, all);
  await asking.run(async (signal) => {
    for await (const line of lines("/api/remove", asked(), signal)) {
      if (line.base) first = { ...line, base: bytes(line.base), replacement: line.replacement && bytes(line.replacement) };
      else add(line, cards);
      progress(`${made.length} of ${all} curves`, made.length, all);
    }
    progress("");
  });
}

const bytes = (text) => Uint8Array.from(atob(text), (each) => each.charCodeAt(0));

function add(line, cards) {
  if (line.error) {
    made.push({ ...line });
    cards.append(h("figure.card.refused", {}, h("p.reason", {}, line.error), h("figcaption", {}, h("b", {}, line.title))));
    return;
  }
  const place = made.filter((each) => !each.error).length;
  const colour = line.method ? COLOURS[place % COLOURS.length] : "var(--soft)";
  const canvas = h("canvas", { width: about.size, height: about.size, role: "img" });
  const fill = h("span.bar-fill");
  const parts = { class: h("span.class-name"), value: h("span.value"), flag: h("span.flag") };
  const swatch = h("span.swatch");
  swatch.style.background = fill.style.background = colour;
  const card = h("figure.card.removal", { "data-method": line.method || "random" }, canvas,
    h("figcaption", {}, h("b", {}, swatch, line.title), h("span.line", {}, parts.class, parts.value), h("span.track", {}, fill), parts.flag));
  const entry = { ...line, colour, canvas, fill, parts, steps: bytes(line.steps), images: [] };
  for (const picture of line.pictures || []) {
    const image = new Image();
    image.src = picture;
    image.addEventListener("load", () => show(entry));
    entry.images.push(image);
  }
  for (const [kind, on] of [["pointerenter", true], ["pointerleave", false]]) card.addEventListener(kind, () => heat(entry, on));
  made.push(entry);
  cards.append(card);
  show(entry);
  curves();
}

function heat(entry, on) {
  for (const each of made) each.line?.classList.toggle("hot", on && each === entry);
}

/** One method's image with holes, and what the network says of it. */
function show(entry) {
  const now = step();
  const wrong = entry.predicted[now] !== first.target;
  const context = entry.canvas.getContext("2d");
  if (entry.images.length) {
    if (entry.images[now].complete) context.drawImage(entry.images[now], 0, 0);
  } else {
    const channels = first.base.length / entry.steps.length;
    const image = context.createImageData(about.size, about.size);
    entry.steps.forEach((gone, place) => {
      const from = gone <= now ? first.replacement : first.base;
      for (let channel = 0; channel < 3; channel++) image.data[4 * place + channel] = from[place * channels + (channels === 3 ? channel : 0)];
      image.data[4 * place + 3] = 255;
    });
    context.putImageData(image, 0, 0);
  }
  entry.parts.class.textContent = entry.names[now];
  entry.parts.value.textContent = entry.confidence[now].toFixed(4);
  entry.parts.flag.textContent = wrong ? `not ${named(first.target)}` : "";
  entry.fill.style.width = `${100 * entry.confidence[now]}%`;
  entry.canvas.setAttribute("aria-label", `${entry.title}: ${entry.names[now]}, confidence ${entry.confidence[now].toFixed(4)}`);
}

function move(now) {
  set({ share: about.shares[now] }, { quiet: true });
  for (const each of made) if (!each.error) show(each);
  mark();
}

const HIGH = 250, LEFT = 38, BOTTOM = 28, TOP = 8, RIGHT = 10;
let width = 0;
const x = (share) => LEFT + share * (width - LEFT - RIGHT);
const y = (value) => TOP + (1 - value) * (HIGH - TOP - BOTTOM);

function curves() {
  width = Math.max(280, chart.clientWidth);
  const drawing = s("svg", { viewBox: `0 0 ${width} ${HIGH}`, width, height: HIGH, role: "img", "aria-label": "Confidence over the share of pixels removed, a line for each method" });
  for (const value of [0, 0.25, 0.5, 0.75, 1]) {
    drawing.append(s("line", { x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value), class: "grid" }));
    drawing.append(s("text", { x: LEFT - 6, y: y(value) + 4, class: "tick end" }, value.toString()));
  }
  for (const share of [0, 0.2, 0.4, 0.6, 0.8, 1]) drawing.append(s("text", { x: x(share), y: HIGH - 8, class: share === 1 ? "tick end" : "tick middle" }, `${Math.round(100 * share)} %`));
  for (const each of made.filter((entry) => !entry.error)) {
    const points = each.confidence.map((value, i) => `${x(about.shares[i]).toFixed(1)},${y(value).toFixed(1)}`);
    const wrong = each.predicted.map((cls, i) => (cls === first.target ? "" : cross(x(about.shares[i]), y(each.confidence[i])))).join("");
    each.line = s("g", { class: each.method ? "curve" : "curve chance" }, s("polyline", { points: points.join(" ") }), s("path", { d: wrong }));
    each.line.style.stroke = each.colour;
    drawing.append(each.line);
  }
  drawing.append(s("line", { id: "here", y1: TOP, y2: HIGH - BOTTOM }));
  drawing.addEventListener("pointerdown", (event) => { drawing.setPointerCapture(event.pointerId); point(event); });
  drawing.addEventListener("pointermove", (event) => event.buttons && point(event));
  chart.replaceChildren(drawing);
  mark();
}

const cross = (at, up) => `M${at - 2.5},${up - 2.5}l5,5m0,-5l-5,5`;

function point(event) {
  const at = (event.offsetX - LEFT) / (width - LEFT - RIGHT);
  const now = Math.round(Math.min(1, Math.max(0, at)) * (about.shares.length - 1));
  $("share").value = now;
  move(now);
}

function mark() {
  const share = about.shares[step()];
  const words = `${(100 * share).toFixed(share * 100 % 1 ? 1 : 0)} %`;
  $("share-told").textContent = words;
  $("share").setAttribute("aria-valuetext", words);
  const line = $("here");
  if (line) for (const end of ["x1", "x2"]) line.setAttribute(end, x(share));
}

addEventListener("resize", () => chart?.isConnected && made.length && curves());
