// Draw: a digit by mouse, finger or keys, what is read, and what speaks for each class by each rule.

import { $, about, Asking, h, later, lines, named, percent, progress, question, set, stack, state } from "./core.js";

const asking = new Asking();
const GRID = 999; // strokes are points of whole numbers up to this
const NEAR = 9; // nearer points than that are one
const MOST = 600; // points, so that the address stays short

export const sided = false;
export const path = "draw";
export const stop = () => asking.stop();
export const asked = () => question({ image: image(), target: null, against: null, methods: state.rules.map((rule) => `lrp:${rule}`) });

let paper = null;
let told = null;
let rows = [];
let pen = null; // where keys have moved it

const image = () => (state.strokes.length ? { strokes: state.strokes } : { example: state.digit ?? 0 });
const drawn = () => state.strokes.length > 0 || state.digit !== null;

export function tools() {
  const boxes = about.rules.map((rule) =>
    h("label.check", {}, h("input", { type: "checkbox", value: rule, checked: state.rules.includes(rule), onchange: rules }), rule));
  return [h("details.chooser", {}, h("summary", {}, "Rules of LRP"), h("div.boxes", { id: "rules" }, boxes))];
}

function rules() {
  set({ rules: [...$("rules").querySelectorAll("input:checked")].map((box) => box.value) });
}

export async function draw() {
  paper = h("canvas", { id: "paper", width: 560, height: 560, tabIndex: 0, role: "img", "aria-label": "Draw a digit here. By keyboard: arrows move the pen, space puts it down and lifts it, Delete clears." });
  for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) paper.addEventListener(kind, pointer);
  paper.addEventListener("keydown", keys);
  paper.addEventListener("blur", () => { pen = null; paint(); });
  const truth = h("select", { id: "truth", onchange: () => { set({ truth: truth.value === "" ? null : Number(truth.value) }, { quiet: true }); show(); } },
    h("option", { value: "" }, "not said"), ...about.classes.map((name, i) => h("option", { value: i }, name)));
  truth.value = state.truth ?? "";
  const buttons = [
    h("button", { type: "button", onclick: () => change(state.strokes.slice(0, -1)) }, "Undo"),
    h("button", { type: "button", id: "clear", onclick: () => change([]) }, "Clear"),
    h("button", { type: "button", id: "any", onclick: () => example(Array.from(about.images.keys())) }, "One of the data"),
    about.misread.length ? h("button", { type: "button", id: "misread", onclick: () => example(about.misread) }, "One that is misread") : null,
  ];
  $("view").replaceChildren(
    h("div.drawing", {}, h("div.desk", {}, paper, h("div.buttons", {}, buttons)),
      h("div.reading", {}, h("p.verdict", { id: "verdict" }), h("div.columns", { id: "chances" }),
        h("div.as-seen", {}, h("img", { id: "as-seen", alt: "The digit as the network sees it", hidden: true }), h("label.field.inline", {}, "What you meant", truth)))),
    h("div", { id: "pair" }), h("div", { id: "by-rule" }));
  paint();
  await read();
}

/** Asks what is read now. */
async function read() {
  if (!drawn()) {
    asking.stop();
    told = null;
    rows = [];
    progress("");
    return show();
  }
  const all = state.rules.length;
  await asking.run(async (signal) => {
    const found = [];
    for await (const line of lines("/api/draw", asked(), signal)) {
      if (line.probabilities) {
        told = line;
        if (line.label !== null && state.truth === null) set({ truth: line.label }, { quiet: true });
      } else found.push(line);
      if (line.probabilities && all) continue;
      rows = found.concat(rows.filter((each) => state.rules.includes(each.method.slice(4)) && !found.some((other) => other.method === each.method)));
      show();
    }
    rows = found;
    show();
  });
}

const soon = later(() => read().catch((error) => progress(error.message)), 120);

function change(strokes) {
  if (state.digit !== null) set({ truth: null }, { quiet: true });
  set({ strokes, digit: null }, { quiet: true });
  $("truth").value = state.truth ?? "";
  paint();
  soon();
}

function example(numbers) {
  const after = numbers.find((each) => each > (state.digit ?? -1)) ?? numbers[0];
  set({ strokes: [], digit: after, truth: null }, { quiet: true });
  paint();
  soon();
}

// ---- ink ----

function place(event) {
  const box = paper.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top].map((at) => Math.max(0, Math.min(GRID, Math.round((GRID * at) / box.width))));
}

function pointer(event) {
  if (event.type === "pointerdown") {
    paper.setPointerCapture(event.pointerId);
    change([...state.strokes, [place(event)]]);
  } else if (event.buttons && event.type === "pointermove" && state.strokes.length) {
    for (const each of event.getCoalescedEvents?.() || [event]) extend(place(each));
  }
  event.preventDefault();
}

function extend(point) {
  const stroke = state.strokes.at(-1);
  const last = stroke.at(-1);
  if (Math.hypot(point[0] - last[0], point[1] - last[1]) < NEAR || state.strokes.flat().length >= MOST) return;
  stroke.push(point);
  change(state.strokes);
}

const STEP = 40;
const MOVES = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };

function keys(event) {
  pen ??= { at: [500, 200], down: false };
  if (event.key in MOVES) {
    pen.at = pen.at.map((each, i) => Math.max(0, Math.min(GRID, each + MOVES[event.key][i])));
    if (pen.down) extend(pen.at.slice());
  } else if (event.key === " ") {
    pen.down = !pen.down;
    if (pen.down) change([...state.strokes, [pen.at.slice()]]);
  } else if (event.key === "Delete" || event.key === "Backspace") change([]);
  else return;
  event.preventDefault();
  paint();
}

/** The strokes, as the data has them: white on black. */
function paint() {
  const context = paper.getContext("2d");
  const unit = paper.width / GRID;
  context.fillStyle = "#000";
  context.fillRect(0, 0, paper.width, paper.height);
  Object.assign(context, { strokeStyle: "#fff", lineWidth: 46, lineCap: "round", lineJoin: "round" });
  for (const stroke of state.strokes) {
    context.beginPath();
    context.moveTo(stroke[0][0] * unit, stroke[0][1] * unit);
    for (const [at, down] of stroke.length > 1 ? stroke.slice(1) : stroke) context.lineTo(at * unit, down * unit);
    context.stroke();
  }
  context.fillStyle = "#8b97a3";
  context.font = "30px system-ui, sans-serif";
  context.textAlign = "center";
  if (!state.strokes.length && state.digit === null) context.fillText("Draw a digit", paper.width / 2, paper.height / 2);
  if (!state.strokes.length && state.digit !== null) number(context);
  if (pen) {
    context.strokeStyle = pen.down ? "#6cb6f5" : "#ffab85";
    context.lineWidth = 4;
    context.beginPath();
    context.arc(pen.at[0] * unit, pen.at[1] * unit, 26, 0, 7);
    context.stroke();
  }
}

/** A digit of the data instead of a drawing. */
function number(context) {
  const digit = state.digit;
  const picture = new Image();
  picture.addEventListener("load", () => {
    if (state.digit !== digit || state.strokes.length) return;
    context.imageSmoothingEnabled = false;
    context.drawImage(picture, 0, 0, paper.width, paper.height);
  });
  picture.src = `/api/example/${digit}`;
}

// ---- what is read ----

function show() {
  const chances = $("chances");
  $("as-seen").hidden = !told;
  if (!told) {
    $("verdict").textContent = "It reads nothing yet.";
    for (const part of [chances, $("pair"), $("by-rule")]) part.replaceChildren();
    return;
  }
  $("truth").value = state.truth ?? "";
  const wrong = state.truth !== null && state.truth !== told.predicted;
  $("verdict").replaceChildren("It reads ", h("b", { id: "read" }, named(told.predicted)), wrong ? h("span.flag", {}, ` misread: you meant ${named(state.truth)}`) : "", h("span.soft", {}, ` confidence ${told.confidence.toFixed(3)}`));
  $("as-seen").src = told.picture;
  chances.replaceChildren(...told.probabilities.map((chance, cls) => {
    const fill = h("span.column-fill");
    fill.style.height = `${Math.max(1, 100 * chance)}%`;
    return h("span", { className: mark(cls, "column"), title: `${named(cls)}: ${percent(chance)}` }, h("span.column-track", {}, fill), h("span.column-name", {}, named(cls)));
  }));
  $("pair").replaceChildren(...(wrong ? pair() : []));
  $("by-rule").replaceChildren(...rows.map(row));
}

const mark = (cls, base) => [base, cls === told.predicted ? "read" : "", cls === state.truth ? "true" : ""].filter(Boolean).join(" ");

function row(each) {
  if (each.error) return h("section.rule", {}, h("h3", {}, each.title), h("p.reason", {}, each.error));
  const cells = each.maps.map((map, cls) =>
    h("figure", { className: mark(cls, "cell") }, stack(told.picture, map, `${each.title}, for ${named(cls)}`), h("figcaption", {}, h("b", {}, named(cls)), h("span", {}, each.starts[cls].toFixed(1).replace("-", "−")))));
  return h("section.rule", { "data-rule": each.method }, h("h3", {}, each.title), h("div.cells", {}, cells));
}

/** The same image explained from the class that was meant and from the one that was read. */
function pair() {
  const each = rows.find((one) => !one.error);
  if (!each) return [];
  const one = (cls, words) => h("figure.card", {}, stack(told.picture, each.maps[cls], `${words} ${named(cls)}`), h("figcaption", {}, h("b", {}, `${words} ${named(cls)}`), h("span", {}, `output ${each.starts[cls].toFixed(2).replace("-", "−")}`)));
  return [h("h3", {}, `Why ${named(told.predicted)} and not ${named(state.truth)}?`), h("p.note", {}, `Relevance by ${each.title}; both maps have one scale. Red speaks for the class, blue against it.`),
    h("div.sheet.two", {}, one(state.truth, "Meant:"), one(told.predicted, "Read:"))];
}
