// The page: tabs, and which view is drawn anew when a setting changes.

import { $, about, blob, complain, h, later, learn, listen, progress, read, set, state, text } from "./core.js";
import * as drawing from "./drawing.js";
import * as layers from "./layers.js";
import * as photo from "./photo.js";
import * as remove from "./remove.js";
import * as side from "./side.js";
import * as two from "./two.js";

const VIEWS = { photo, remove, draw: drawing, two, layers };
const NAMES = { photo: "Photo", remove: "Remove", draw: "Draw", two: "Two networks", layers: "Layers" };

let shown = null;

async function begin() {
  await learn();
  read();
  document.title = `${about.title} · xaicompare explore`;
  $("title").textContent = about.title;
  $("note").textContent = about.note;
  $("note").hidden = !about.note;
  const views = Object.keys(VIEWS).filter((view) => (view !== "draw" || about.draw) && (view !== "two" || about.second));
  $("tabs").append(...views.map((view) => h("li", {}, h("a", { href: `?view=${view}`, "data-view": view, onclick: (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    set({ view });
  } }, NAMES[view]))));
  side.build();
  listen(changed);
  await open();
}

/** Scrolls a row sideways until an element in it is seen. scrollIntoView would also move where Tab begins. */
function uncover(row, element) {
  const [frame, box] = [row.getBoundingClientRect(), element.getBoundingClientRect()];
  row.scrollLeft += Math.min(0, box.left - frame.left) + Math.max(0, box.right - frame.right);
}

/** Draws the view of the state from its tools on. */
async function open() {
  VIEWS[shown]?.stop();
  shown = state.view;
  const view = VIEWS[shown];
  for (const link of $("tabs").querySelectorAll("a")) link.toggleAttribute("aria-current", link.dataset.view === shown);
  uncover($("tabs"), $("tabs").querySelector("[aria-current]"));
  document.body.dataset.view = shown;
  document.body.classList.toggle("tiny", about.size <= 64);
  $("side").hidden = !view.sided;
  $("methods-section").hidden = shown === "layers";
  $("against-field").hidden = shown === "remove";
  $("tools").replaceChildren(...view.tools());
  $("view").replaceChildren();
  await draw(true);
}

let drawings = 0;

async function draw(look = false) {
  const mine = ++drawings;
  complain("");
  try {
    const view = VIEWS[shown];
    if (view.sided) {
      if (look && !(await side.look())) {
        if (!state.image) $("view").replaceChildren(h("p.headline", {}, "Choose an image to begin."));
        return;
      }
      side.show();
    }
    await view.draw();
  } catch (error) {
    progress("");
    complain(error.message || String(error));
  } finally {
    if (mine === drawings) $("main").setAttribute("aria-busy", "false");
  }
}

const soon = later((look) => draw(look), 60);

function changed(changes) {
  drawings++;
  $("main").setAttribute("aria-busy", "true");
  if ("view" in changes) return open();
  VIEWS[shown].stop();
  soon("image" in changes);
}

// ---- the code, and the picture ----

$("code").addEventListener("click", async () => {
  complain("");
  try {
    $("lines-text").textContent = await text(`/api/code/${VIEWS[shown].path}`, VIEWS[shown].asked());
    $("lines").showModal();
  } catch (error) {
    complain(error.message);
  }
});

$("copy").addEventListener("click", async () => {
  const range = document.createRange();
  range.selectNodeContents($("lines-text"));
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  await navigator.clipboard?.writeText($("lines-text").textContent).catch(() => {});
  $("copy").textContent = "Copied";
  setTimeout(() => ($("copy").textContent = "Copy"), 1500);
});

$("save").addEventListener("click", async () => {
  complain("");
  $("save").disabled = true;
  try {
    const link = h("a", { href: URL.createObjectURL(await blob(`/api/picture/${VIEWS[shown].path}`, VIEWS[shown].asked())), download: `xaicompare-${shown}.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    complain(error.message);
  } finally {
    $("save").disabled = false;
  }
});

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
}

begin().catch((error) => complain(`The page can't begin: ${error.message}`));
