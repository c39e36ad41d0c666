// The rows of the chains. Only those are drawn that are seen; an element stays as long as what it shows, and so does the focus.

import { at, make, put } from "./stream.js";
import { marked, tags, waits } from "./states.js";

const SPARE = 6;            // rows drawn beyond what is seen
const BEFORE = 6;           // settled saves that are shown in front of those that wait
const COMMANDS = [["pause", "Pause"], ["resume", "Resume"], ["clear", "Clear"], ["retry", "Retry"], ["skip", "Skip"]];

const drawn = new Map();    // id -> the row's element
const paged = new Map();    // id of a chain whose earlier or later saves were asked for -> id of the first that is shown
let room = 0;               // pixels for the boxes of a row
let drawing = [];           // what was drawn last
let act, look, redraw;      // what the page does

export function begin(what) {
  ({ act, look, redraw } = what);
  at("rows").addEventListener("keydown", keyed);
}

export function drawRows(order, chains, readonly) {
  drawing = [order, chains, readonly];
  const scroll = at("scroll");
  const height = drawn.values().next().value?.offsetHeight || 44;
  const first = Math.max(0, Math.floor(scroll.scrollTop / height) - SPARE);
  const ids = order.slice(first, first + Math.ceil(scroll.clientHeight / height) + 2 * SPARE);
  const focused = document.activeElement.closest?.(".chain");
  if (focused) {  // it stays, wherever it is, or the next key would lead to the top of the page
    const id = Number(focused.dataset.chain);
    if (!order.includes(id)) scroll.focus({ preventScroll: true });
    else if (!ids.includes(id)) ids.push(id);
  }
  const measured = Math.min(...[...drawn.values()].map((element) => element.children[1].clientWidth));
  const resized = Number.isFinite(measured) && Math.abs(measured - room) > 8;
  if (resized) room = measured;
  at("space").style.height = `${order.length * height}px`;
  for (const id of paged.keys()) if (!chains.has(id)) paged.delete(id);
  for (const [id, element] of drawn) if (!ids.includes(id)) { element.remove(); drawn.delete(id); }
  const fresh = drawn.size === 0;
  const places = new Map(order.map((id, index) => [id, index]));
  let before = null;
  for (const id of ids.sort((one, other) => places.get(one) - places.get(other))) {
    let element = drawn.get(id);
    if (!element) { element = row(id); drawn.set(id, element); }
    const place = before ? before.nextSibling : at("rows").firstChild;
    if (element !== place) at("rows").insertBefore(element, place);  // a new one: their order among each other stays
    element.style.top = `${places.get(id) * height}px`;
    put(element.children[0], chains.get(id).title, { title: chains.get(id).title });
    element.setAttribute("aria-posinset", places.get(id) + 1);
    element.setAttribute("aria-setsize", order.length);
    fill(element, chains.get(id), readonly, resized);
    before = element;
  }
  if (fresh && drawn.size) redraw();  // now it can be measured
}

function row(id) {
  const element = make("li", undefined, { class: "chain", "data-chain": id });
  const group = make("span", undefined, { role: "group" });
  for (const [name, label] of COMMANDS) {
    const button = make("button", label, { type: "button", "data-command": name });
    button.addEventListener("click", () => act(name, { chain: id }));
    group.append(button);
  }
  for (const size of [1, 4]) {  // of a CallChain: others have that of their lane
    const button = make("button", `Batch ${size}`, { type: "button", "data-size": size });
    button.addEventListener("click", () => act("batch", { chain: id, size }));
    group.append(button);
  }
  element.append(make("span", "", { class: "title", dir: "auto" }), make("ol", undefined, { class: "boxes" }), group);
  return element;
}

function fill(element, chain, readonly, resized) {
  if (element.chain === chain && !resized && !element.turned) return;
  element.chain = chain;
  element.turned = false;
  const [, boxes, group] = element.children;
  put(group, group.textContent, { "aria-label": chain.title });
  const active = group.contains(document.activeElement) ? document.activeElement : null;
  group.hidden = readonly;
  for (const button of group.children) {
    const name = button.dataset.command, size = Number(button.dataset.size);
    if (size) button.setAttribute("aria-pressed", String(chain.batch === size));
    button.hidden = (size && typeof chain.batch !== "number") || (name === "pause" && chain.paused) || (name === "resume" && !chain.paused) ||
      ((name === "retry" || name === "skip") && chain.halted === null);
  }
  if (active?.hidden) [...group.children].find((button) => !button.hidden).focus();
  fillBoxes(element, boxes, chain);
}

function fillBoxes(element, list, chain) {
  const { from, to } = windowOf(chain);
  const shown = chain.boxes.slice(from, to);
  const old = new Map([...list.children].map((item) => [item.dataset.item, item]));
  const items = [];
  const item = (key, making) => { const one = old.get(key) ?? making(); one.dataset.item = key; items.push(one); return one.firstChild; };
  const turn = (start) => { paged.set(chain.id, chain.boxes[start].id); element.turned = true; redraw(); };
  const button = (attributes, pressed) => () => {
    const one = make("li"), inside = make("button", "", { type: "button", tabindex: "-1", ...attributes });
    inside.addEventListener("click", () => pressed(inside));
    one.append(inside);
    return one;
  };
  const earlier = chain.dropped + from;
  if (earlier) {
    const kept = chain.dropped ? `, ${chain.dropped} of them not kept` : "";
    const inside = item("earlier", button({ class: "more" }, (one) => one.turn()));
    inside.turn = () => { if (from > 0) turn(Math.max(0, from - Math.max(1, shown.length - 1))); };
    put(inside, `‹ ${earlier}`, { "aria-label": `${earlier} earlier saves${kept}`, title: `${earlier} earlier saves${kept}`, "aria-disabled": String(from === 0) });
  }
  for (const box of shown) {
    const { text, label } = marked(box);
    put(item(`box-${box.id}`, button({ "data-save": box.id }, () => look(box.id, true))), text, { "data-state": box.state, "aria-label": label, title: label });
  }
  const untold = chain.boxes.length - to, later = untold + chain.more;
  if (later) {
    const inside = item("later", button({ class: "more" }, (one) => one.turn()));
    inside.turn = () => { if (untold) turn(to); };
    put(inside, `${later} ›`, { "aria-label": `${later} later saves`, title: `${later} later saves`, "aria-disabled": String(untold === 0) });
  }
  for (const [words, state] of tags(chain)) {
    const inside = item(`tag-${state}`, () => { const one = make("li"); one.append(make("span", "", { class: "done" })); return one; });
    put(inside, words, { "data-state": state });
  }
  const active = list.contains(document.activeElement) ? document.activeElement : null;
  if (items.length !== list.children.length || items.some((one, index) => one !== list.children[index])) {
    for (const one of [...list.children]) if (!items.includes(one)) one.remove();
    items.forEach((one, index) => { if (list.children[index] !== one) list.insertBefore(one, list.children[index] ?? null); });
  }
  const buttons = [...list.querySelectorAll("button")];
  if (active && document.activeElement !== active) (buttons.includes(active) ? active : buttons.at(-1) ?? at("scroll")).focus({ preventScroll: true });
  const stop = buttons.includes(document.activeElement) ? document.activeElement : buttons.findLast((one) => one.dataset.save) ?? buttons[0];
  for (const one of buttons) one.tabIndex = one === stop ? 0 : -1;  // Tab leads from row to row, arrows within one
}

// Which of the saves find room: from a few in front of the first that waits, or the latest; unless others were asked for.
function windowOf(chain) {
  const boxes = chain.boxes;
  const scale = parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  const wide = (box) => Math.max(34, 12 + 7.8 * marked(box).text.length) * scale;  // as in style.css
  const spare = (90 + tags(chain).length * 80) * scale;
  let left = Math.max(room - spare, 60);
  const waiting = boxes.findIndex(waits);
  const asked = paged.has(chain.id) ? boxes.findIndex((box) => box.id === paged.get(chain.id)) : -1;
  let from = asked >= 0 ? asked : waiting >= 0 ? Math.max(0, waiting - BEFORE) : boxes.length, to = from;
  if (asked < 0 && waiting >= 0) for (let needed = boxes.slice(from, waiting + 1).reduce((sum, box) => sum + wide(box), 0); needed > left && from < waiting; ) needed -= wide(boxes[from++]);
  to = from;
  while (to < boxes.length && (left >= wide(boxes[to]) || to === from)) left -= wide(boxes[to++]);
  if (to === boxes.length) while (from > 0 && left >= wide(boxes[from - 1])) left -= wide(boxes[--from]);
  return { from, to };
}

// Arrows: to the left and right within a row, up and down from row to row.
function keyed(event) {
  const row = event.target.closest(".chain");
  if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
  const across = event.key === "ArrowUp" || event.key === "ArrowDown";
  if (across) drawRows(...drawing);  // the rows beside it may not be drawn yet, if it was scrolled since, or by the last key
  const buttons = (one) => [...one.querySelectorAll("button")].filter((button) => button.offsetParent);
  const here = buttons(row), index = here.indexOf(event.target);
  const beside = { ArrowUp: row.previousElementSibling, ArrowDown: row.nextElementSibling }[event.key];
  const next = {
    ArrowLeft: here[index - 1], ArrowRight: here[index + 1], Home: here[0], End: here.at(-1),
    ...(beside && { [event.key]: buttons(beside)[Math.min(index, buttons(beside).length - 1)] }),
  }[event.key];
  if (!next) return;
  event.preventDefault();
  if (next.closest(".boxes")) for (const one of next.closest(".boxes").querySelectorAll("button")) one.tabIndex = one === next ? 0 : -1;
  next.focus();
}
