// Photo: a sheet of maps, which appear one by one.

import { $, about, Asking, h, lines, named, number, percent, progress, question, seconds, set, stack, state } from "./core.js";
import { seen } from "./side.js";

const asking = new Asking();
const known = new Map(); // maps that this page has got already
const MOST_KNOWN = 150;
let shown = [];

export const sided = true;
export const path = "photo";
export const stop = () => asking.stop();

export function tools() {
  const range = h("input", { id: "over", type: "range", min: 0, max: 1, step: 0.05, value: state.over, oninput: () => {
    set({ over: Number(range.value) }, { quiet: true });
    strength();
  } });
  return [h("label.field.inline", {}, "Map over image", range)];
}

function strength() {
  document.documentElement.style.setProperty("--over", state.over);
}

const key = (name) => JSON.stringify([state.image, state.target ?? seen.predicted, state.against, state.layer, name]);

export async function draw() {
  strength();
  const view = $("view");
  const head = h("p.headline");
  const sheet = h("div.sheet", { id: "sheet" });
  view.replaceChildren(head, sheet, scale());
  const target = state.target ?? seen.predicted;
  const contrast = state.against === null ? "" : `, not ${named(state.against)}`;
  head.replaceChildren("What speaks for ", h("b", {}, named(target)), contrast, "?");
  shown = [];
  const place = (told) => {
    shown.push(told);
    sheet.append(card(told, shown.length - 1));
  };
  for (const name of state.methods) if (known.has(key(name))) place(known.get(key(name)));
  const missing = state.methods.filter((name) => !known.has(key(name)));
  const all = state.methods.length;
  if (!all) return progress("Choose a method.");
  if (!missing.length) return progress("");
  progress(`${all - missing.length} of ${all} maps`, all - missing.length, all);
  const keys = new Map(missing.map((name) => [name, key(name)]));
  await asking.run(async (signal) => {
    for await (const told of lines("/api/maps", question({ methods: missing }), signal)) {
      if (!told.method) continue;
      if (known.size >= MOST_KNOWN) known.delete(known.keys().next().value);
      known.set(keys.get(told.method), told);
      place(told);
      progress(`${shown.length} of ${all} maps`, shown.length, all);
    }
    progress("");
  });
}

/** What is told below a map. */
function facts(told) {
  const complete = told.incompleteness === null ? "promises no sum" : `sum off by ${percent(told.incompleteness)}`;
  const passes = `${told.forward} + ${told.backward} passes`;
  return [h("span", { className: told.status === "failed" || told.status === "warn" ? "flag" : "", title: `values sum to ${number(told.sum)}, the score is ${number(told.score)}` }, complete),
    h("span", { title: "forward + backward, for one image at the default settings" }, `${seconds(told.seconds)}, ${passes}`)];
}

function card(told, place) {
  if (told.error) return h("figure.card.refused", {}, h("p.reason", {}, told.error), h("figcaption", {}, h("b", {}, told.title), h("span", {}, "no map")));
  const label = `Map of ${told.title}`;
  return h("figure.card", { "data-method": told.method },
    h("button.enlarge", { type: "button", "aria-label": `Enlarge ${told.title}`, onclick: () => enlarge(place) }, stack(seen.picture, told.map, label)),
    h("figcaption", {}, h("b", {}, told.title), ...facts(told)));
}

function scale() {
  const bar = h("span.scale-bar");
  bar.style.background = `linear-gradient(to right, ${about.stops.join(", ")})`;
  return h("p.scale", {}, "against", bar, "for the class. ", h("span.soft", {}, `Each map is divided by the ${about.percentile} % quantile of its |value|.`));
}

let large = 0;

function enlarge(place) {
  large = place;
  const told = shown[place];
  $("large-title").textContent = told.title;
  $("large-picture").replaceChildren(stack(seen.picture, told.map, `Map of ${told.title}`));
  const complete = told.incompleteness === null ? "The method promises no sum." : `The values sum to ${number(told.sum)} of a score of ${number(told.score)}; what is promised is missed by ${percent(told.incompleteness)}.`;
  $("large-told").textContent = `${complete} ${seconds(told.seconds)}. ${told.settings}`;
  if (!$("large").open) $("large").showModal();
}

function turn(by) {
  const drawn = shown.map((each, place) => (each.error ? -1 : place)).filter((place) => place >= 0);
  enlarge(drawn[(drawn.indexOf(large) + by + drawn.length) % drawn.length]);
}

$("large-previous").addEventListener("click", () => turn(-1));
$("large-next").addEventListener("click", () => turn(1));
$("large").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") turn(-1);
  if (event.key === "ArrowRight") turn(1);
});

export const asked = () => question();
