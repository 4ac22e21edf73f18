// Layers: where relevance goes on its way down, what each layer absorbs, and the channels of one.

import { $, about, answer, Asking, h, named, number, progress, question, set, stack, state } from "./core.js";
import { seen } from "./side.js";

const asking = new Asking();

export const sided = true;
export const path = "layers";
export const stop = () => asking.stop();
export const asked = () => question();

export function tools() {
  const select = h("select", { id: "composite", onchange: () => set({ composite: select.value }) }, ...about.rules.map((rule) => h("option", { value: rule }, rule)));
  select.value = state.composite;
  return [h("label.field.inline", {}, "Rule", select)];
}

export async function draw() {
  progress("Sending relevance down …");
  await asking.run(async (signal) => {
    let told;
    try {
      told = await answer("/api/layers", asked(), signal);
    } catch (error) {
      if (state.inside === null || signal.aborted) throw error;
      set({ inside: null }, { quiet: true }); // a layer of another network
      told = await answer("/api/layers", asked(), signal);
    }
    progress("");
    show(told);
  });
}

function show(told) {
  const most = Math.max(...told.layers.map((each) => Math.abs(each.sum)), Math.abs(told.start), 1e-12);
  let taken = 0;
  const rows = told.layers.map((each) => {
    const fill = h("span", { className: each.sum < 0 ? "flow-fill minus" : "flow-fill" });
    fill.style.width = `${(100 * Math.abs(each.sum)) / most}%`;
    const before = taken;
    taken += each.absorbed;
    const gone = h("span.flow-gone");
    gone.style.width = `${Math.min(100 - (100 * Math.abs(each.sum)) / most, (100 * Math.abs(before)) / most)}%`;
    return h("button.flow", { type: "button", "aria-pressed": String(each.layer === state.inside), onclick: () => set({ inside: each.layer === state.inside ? null : each.layer }) },
      h("span.flow-name", {}, each.layer), h("span.flow-track", {}, fill, gone), h("span.n", {}, number(each.sum)), h("span.n.soft", {}, number(each.absorbed)));
  });
  const start = h("p.headline", {}, "From ", h("b", {}, named(told.target)), ` (${number(told.start)}) down to the image (${number(told.input)})`);
  $("view").replaceChildren(start,
    h("div.layers", {},
      h("div.flows", {}, h("p.flow.head", {}, h("span.flow-name", {}, "layer, from the output down"), h("span.flow-track", {}, "relevance of its outputs; grey: absorbed above"), h("span.n", {}, "sum"), h("span.n", {}, "absorbs")), ...rows),
      h("div", {}, inside(told), h("figure.card.end", {}, stack(seen.picture, told.map, "Relevance of the image"), h("figcaption", {}, h("b", {}, "At the image"), h("span", {}, `sum ${number(told.input)}`))))));
}

function inside(told) {
  if (!told.channels) return h("p.note", {}, "Choose a layer to see which of its channels hold most relevance.");
  const cells = told.channels.map((each) =>
    h("figure.cell", {}, each.map ? h("span.stack.plain", {}, h("img.map", { src: each.map, alt: `Channel ${each.channel}` })) : null,
      h("figcaption", {}, h("b", {}, each.channel), h("span", {}, number(each.sum)))));
  return h("section.rule", { id: "channels" }, h("h3", {}, `Channels of ${state.inside}`), h("div.cells.channels", {}, cells));
}
