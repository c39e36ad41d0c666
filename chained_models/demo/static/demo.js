// The demo's page: items that are put on a chain, and baskets beside it. What comes from the program is set as text.

import { at, listen, make, post, token } from "./inspector/stream.js";

const ITEMS = 40, BASKETS = 3;
const chains = new Map();   // id -> chain
let boot = "";

function tell(problem) {
  at("problem").textContent = problem;
  at("problem").hidden = !problem;
}

async function ask(path, what) {
  try { await post(path, what); tell(""); } catch (error) { tell(error.message); }
}

const calls = () => [...chains.values()].find((chain) => chain.title.endsWith("send"));
const basket = (number) => [...chains.values()].find((chain) => chain.title === `Basket ${number}`);

function boxes(element, chain, most) {
  const shown = chain ? chain.boxes.slice(-most) : [];
  const items = shown.map((box) => {
    const state = box.state.replace(/_/g, " ");
    const item = make("li");
    item.append(make("span", `${box.seq}${box.attempts > 1 ? ` ×${box.attempts}` : ""}`, { "data-state": state, title: `${box.verb} ${box.seq}: ${state}` }));
    return item;
  });
  if (chain && chain.idle && !chain.paused) items.push(make("li", "done", { class: "done", "data-state": "done" }));
  if (chain && chain.paused) items.push(make("li", "paused", { class: "done" }));
  element.replaceChildren(...items);
}

function draw() {
  boxes(at("calls"), calls(), 60);
  for (let number = 1; number <= BASKETS; number++) boxes(at(`basket-${number}`), basket(number), 25);
}

function take(state) {
  if (state.boot !== boot) { boot = state.boot; chains.clear(); }
  for (const gone of state.gone) chains.delete(gone);
  for (const chain of state.chains) chains.set(chain.id, chain);
  draw();
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
at("inspector").href = `inspector/#token=${token}`;
listen("inspector/events", take, (text) => { at("connection").textContent = text; });
