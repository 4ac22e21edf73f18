// The side: which image, which class, which methods.

import { $, about, answer, Asking, complain, h, named, percent, question, set, state, uploaded } from "./core.js";

const looking = new Asking();
export const seen = { picture: null, predicted: null, top: [] };

export function build() {
  $("examples").hidden = !about.images.length;
  $("which").append(...about.images.map((name, number) => h("option", { value: number }, name)));
  $("which").addEventListener("change", () => choose(Number($("which").value)));
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  $("file").addEventListener("change", () => take($("file").files[0]));
  for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, drag);
  addEventListener("paste", (event) => event.clipboardData.files.length && take(event.clipboardData.files[0]));
  $("classes").append(...about.classes.map((name) => h("option", { value: name })));
  $("other").addEventListener("change", other);
  $("against").addEventListener("change", () => set({ against: $("against").value === "" ? null : Number($("against").value) }));
  $("layer").append(h("option", { value: "" }, "the last"), ...about.layers.map((name) => h("option", { value: name }, name)));
  $("layer").value = state.layer || "";
  $("layer").addEventListener("change", () => set({ layer: $("layer").value || null }));
  $("layer-field").hidden = !about.layers.length;
  $("other-field").hidden = about.classes.length <= 5;
  methods();
  $("methods-section").open = matchMedia("(min-width: 56rem)").matches; // on a phone the maps come first
}

function methods() {
  const groups = new Map();
  for (const each of about.methods) groups.set(each.group, [...(groups.get(each.group) || []), each]);
  for (const [group, members] of groups) {
    const open = members.some((each) => state.methods.includes(each.method));
    const boxes = members.map((each) =>
      h("label.check", {}, h("input", { type: "checkbox", value: each.method, checked: state.methods.includes(each.method), onchange: chosen }), each.title));
    $("methods").append(h("details", { open }, h("summary", {}, group), h("div.boxes", {}, boxes)));
  }
}

export const count = () => ($("chosen").textContent = `${state.methods.length} chosen`);

function chosen() {
  const boxes = [...$("methods").querySelectorAll("input:checked")];
  set({ methods: boxes.map((box) => box.value) });
  count();
}

function step(by) {
  const count = about.images.length;
  const now = state.image && !state.image.square ? state.image.example : -1;
  choose((now + by + count) % count);
}

function choose(number) {
  $("upload-told").textContent = "";
  set({ image: { example: number }, target: null, against: null });
}

function drag(event) {
  event.preventDefault();
  document.body.classList.toggle("dragging", event.type === "dragover");
  if (event.type === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
}

async function take(file) {
  if (!file) return;
  $("file").value = "";
  $("upload-told").textContent = "";
  complain("");
  try {
    if (file.size > about.most_bytes) throw new Error(`The file has ${(file.size / 2 ** 20).toFixed(0)} MiB; expected at most ${about.most_bytes / 2 ** 20}. Make it smaller.`);
    const told = await uploaded(file);
    $("upload-told").textContent = told.notes.join(" ");
    set({ image: { square: told.square.split(",")[1], size: about.size, name: file.name }, target: null, against: null });
  } catch (error) {
    $("upload-told").textContent = error.message;
  }
}

function other() {
  const given = $("other").value.trim();
  const found = about.classes.findIndex((name) => name.toLowerCase() === given.toLowerCase());
  const target = found >= 0 ? found : /^\d+$/.test(given) && Number(given) < about.classes.length ? Number(given) : null;
  $("other").setCustomValidity(given && target === null ? "No such class." : "");
  $("other").reportValidity();
  if (target !== null) set({ target, against: state.against === target ? null : state.against });
}

/** Looks at the image anew: what the network says of it. */
export async function look() {
  strip();
  count();
  if (!state.image) return false;
  return looking.run(async (signal) => {
    const told = await answer("/api/look", question(), signal);
    Object.assign(seen, told);
    $("thumb").src = told.picture;
    $("drop").classList.toggle("small", about.size <= 64);
    show();
  });
}

/** The five most probable classes, of which one is explained. */
export function show() {
  const target = state.target ?? seen.predicted;
  const rows = seen.top.map((each) => ({ ...each }));
  if (!rows.some((each) => each.class === target)) rows.push({ class: target, name: named(target), probability: null });
  $("said").replaceChildren(
    ...rows.map((each) => {
      const bar = h("span.bar-fill");
      bar.style.width = `${100 * (each.probability ?? 0)}%`;
      const chance = each.probability === null ? "chosen" : percent(each.probability);
      const input = h("input", { type: "radio", name: "target", value: each.class, checked: each.class === target,
        onchange: () => set({ target: each.class === seen.predicted ? null : each.class, against: state.against === each.class ? null : state.against }) });
      return h("label.class", {}, input, h("span.class-name", {}, each.name), h("span.chance", {}, chance), h("span.track", {}, bar));
    }),
  );
  const pool = about.classes.length <= 30 ? about.classes.map((_, number) => number) : seen.top.map((each) => each.class);
  if (state.against !== null && !pool.includes(state.against)) pool.push(state.against);
  $("against").replaceChildren(h("option", { value: "" }, "nothing"), ...pool.filter((each) => each !== target).map((each) => h("option", { value: each }, named(each))));
  $("against").value = state.against ?? "";
  const truth = seen.label === null ? "" : seen.label === seen.predicted ? " That is right." : ` The true class is ${named(seen.label)}.`;
  $("confidence").textContent = `Confidence (max − 2nd) / max: ${seen.confidence.toFixed(3)}.${truth}`;
}

const AROUND = 12;

function strip() {
  const own = Boolean(state.image && state.image.square);
  const now = own || !state.image ? -1 : state.image.example;
  if (now >= 0) $("which").value = now;
  $("which").querySelector("option.own")?.remove();
  if (own) {
    $("which").prepend(h("option.own", { value: "own", disabled: true }, state.image.name || "your own image"));
    $("which").value = "own";
  }
  const first = Math.max(0, Math.min(now - AROUND / 2, about.images.length - AROUND));
  const wanted = about.images.slice(first, first + AROUND).map((name, i) => [first + i, name]);
  if ($("strip").dataset.first !== String(first)) {
    $("strip").dataset.first = first;
    $("strip").replaceChildren(...wanted.map(([place, name]) =>
      h("button", { type: "button", "aria-label": name, title: name, onclick: () => choose(place), "data-number": place },
        h("img", { src: `/api/example/${place}`, alt: "", loading: "lazy" }))));
  }
  for (const button of $("strip").children) button.setAttribute("aria-pressed", String(Number(button.dataset.number) === now));
}
