// The page of the inspector. Whatever comes from the program is set as text, never as markup.

import * as detail from "./detail.js";
import { drawLanes } from "./lanes.js";
import * as rows from "./rows.js";
import { legend, waits } from "./states.js";
import { at, listen, make, post, put, tell } from "./stream.js";
import * as timeline from "./timeline.js";

const CHOICES = {
  all: () => true,
  waiting: (chain) => chain.boxes.some(waits),
  failed: (chain) => chain.boxes.some((box) => box.state === "failed" || box.state === "abandoned"),
  doubt: (chain) => chain.boxes.some((box) => box.state === "in doubt"),
  held: (chain) => chain.paused || chain.halted !== null,
};

const chains = new Map();   // id -> chain
let order = [];             // ids of the chains that are shown
let latest = { boot: "", lanes: [], latencies: [], ended: [], readonly: true };
let ahead = 0;              // by how many seconds the program's clock is ahead of ours, which counts from the opening of the page
let asked = false;          // whether a drawing is due
let before = "";            // the program whose chains these are
let ticking = 0;

const now = () => performance.now() / 1000 + ahead;

const failed = (error) => tell(error.message);

async function act(name, what) {
  try {
    tell("");
    await post("do", { command: name, ...what });
  } catch (error) {
    failed(error);
  }
}

function take(state) {
  const anew = state.boot !== latest.boot && latest.boot !== "";
  if (anew) chains.clear();
  latest = state;
  ahead = state.now - performance.now() / 1000;
  for (const gone of state.gone) chains.delete(gone);
  for (const chain of state.chains) chains.set(chain.id, chain);
  for (const element of document.querySelectorAll(".changes")) element.hidden = state.readonly;
  // Another start of the program; a boot with the same beginning only says that all of it was sent again.
  detail.changed(state, anew && state.boot.split(".")[0] !== before);
  before = state.boot.split(".")[0];
  draw();
}

// Once for each frame at most; and never while the page is not seen, when there are no frames.
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    const wanted = at("filter").value.toLowerCase(), choice = CHOICES[at("only").value];
    order = [];
    for (const chain of chains.values()) if (choice(chain) && (!wanted || chain.title.toLowerCase().includes(wanted))) order.push(chain.id);
    put(at("count"), order.length === chains.size ? `${chains.size} chains` : `${order.length} of ${chains.size} chains`);
    const busy = drawLanes(latest, now(), act);
    clearTimeout(ticking);
    // What is counted grows less, and what runs grows longer, also when nothing comes.
    if (busy || !at("timeline").hidden) ticking = setTimeout(draw, 1000);
    if (at("timeline").hidden) rows.drawRows(order, chains, latest.readonly); else timeline.renew();
  });
}

detail.begin({ act, failed });
rows.begin({ act, look: detail.look, redraw: draw });
timeline.begin({ now, order: () => order, failed });
at("legend").append(...legend(make));
at("scroll").addEventListener("scroll", draw, { passive: true });
at("filter").addEventListener("input", draw);
at("only").addEventListener("input", draw);
for (const button of document.querySelectorAll("[data-all]")) {
  button.addEventListener("click", () => {
    if (button.dataset.all === "clear" && !confirm("Cancel all saves that wait, of all chains?")) return;
    act(button.dataset.all, { all: true });
  });
}
at("view").addEventListener("click", () => {
  const shown = at("timeline").hidden;
  at("timeline").hidden = !shown;
  at("scroll").hidden = at("legend").hidden = shown;
  at("view").setAttribute("aria-pressed", String(shown));
  if (shown) timeline.draw();
  draw();
});
new ResizeObserver(draw).observe(at("scroll"));
new ResizeObserver(draw).observe(at("drawing"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
listen("events", take);
