// The demo's page: items that are put on a chain, and baskets beside it. What comes from the program is set as text.

import { legend, marked, tags, waits } from "./inspector/states.js";
import { at, listen, make, post, tell, token } from "./inspector/stream.js";

const ITEMS = 40, BASKETS = 3;
const BEFORE = 6;           // settled ones that are shown in front of those that wait, if not all find room
const chains = new Map();   // id -> chain
let boot = "";

async function ask(path, what) {
  try { await post(path, what); tell(""); } catch (error) { tell(error.message); }
}

const calls = () => [...chains.values()].find((chain) => chain.title.endsWith("send"));
const basket = (number) => [...chains.values()].find((chain) => chain.title === `Basket ${number}`);

function boxes(element, chain, most) {
  if (element.chain === chain) return;
  element.chain = chain;
  const waiting = chain.boxes.findIndex(waits);
  const from = Math.max(0, Math.min(chain.boxes.length - most, waiting < 0 ? Infinity : waiting - BEFORE));
  const earlier = from + chain.dropped, later = Math.max(0, chain.boxes.length - from - most) + chain.more;
  const said = [
    ...(earlier ? [[`‹ ${earlier}`, "", `${earlier} earlier`]] : []),
    ...chain.boxes.slice(from, from + most).map((box) => [marked(box).text, box.state, marked(box).label]),
    ...(later ? [[`${later} ›`, "", `${later} later`]] : []),
  ];
  element.replaceChildren(...said.map(([text, state, label]) => {
    const item = make("li"), inside = make("span", undefined, { "data-state": state, title: label });
    inside.append(make("span", text, { "aria-hidden": "true", class: "text" }), make("span", label, { class: "read" }));
    item.append(inside);
    return item;
  }), ...tags(chain).map(([words, state]) => make("li", words, { class: "done", "data-state": state })));
}

function draw() {
  const chain = calls();
  for (const button of document.querySelectorAll("[data-command], [data-batch]")) button.disabled = !chain;
  for (const button of document.querySelectorAll("[data-batch]")) button.setAttribute("aria-pressed", String(chain?.batch === Number(button.dataset.batch)));
  if (chain) boxes(at("calls"), chain, 60);
  for (let number = 1; number <= BASKETS; number++) {
    const one = basket(number);
    if (one) boxes(at(`basket-${number}`), one, 25);
  }
}

function take(state) {
  if (state.boot !== boot) {
    boot = state.boot;
    chains.clear();
    for (const element of document.querySelectorAll(".boxes")) { element.replaceChildren(); element.chain = null; }
  }
  for (const gone of state.gone) chains.delete(gone);
  for (const chain of state.chains) chains.set(chain.id, chain);
  requestAnimationFrame(draw);
}

for (let item = 1; item <= ITEMS; item++) {
  const button = make("button", String(item), { type: "button" });
  const add = () => ask("add", { item });
  button.addEventListener("click", add);
  button.addEventListener("mouseenter", () => { if (at("hover").checked) add(); });
  at("items").append(button);
}
for (let number = 1; number <= BASKETS; number++) {
  const row = make("div", undefined, { class: "basket" });
  const button = make("button", `Basket ${number}: one more apple`, { type: "button" });
  button.addEventListener("click", () => ask("add", { basket: number }));
  row.append(button, make("ol", undefined, { class: "boxes", id: `basket-${number}`, "aria-label": `Saves of basket ${number}` }));
  at("baskets").append(row);
}
for (const button of document.querySelectorAll("[data-command]")) {
  button.addEventListener("click", () => { const chain = calls(); if (chain) ask("inspector/do", { command: button.dataset.command, chain: chain.id }); });
}
for (const button of document.querySelectorAll("[data-batch]")) {
  button.addEventListener("click", () => { const chain = calls(); if (chain) ask("inspector/do", { command: "batch", chain: chain.id, size: Number(button.dataset.batch) }); });
}
at("legend").append(...legend(make));
listen("inspector/events", take, () => { at("inspector").href = `inspector/#token=${token}`; });
