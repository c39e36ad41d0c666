// The page of the inspector: lanes, and a row of boxes for each chain. Whatever comes from the program is set as text, never as markup.

import { close, isShown, look, shownSave } from "./detail.js";
import { at, listen, make, post } from "./stream.js";
import { drawTimeline, listenToButtons } from "./timeline.js";

const SPARE = 6;            // rows drawn beyond what is seen
const BOX = 54;             // pixels of a box, and
const BESIDE = 150;         // of what may stand beside them
const SVG = "http://www.w3.org/2000/svg";
const COMMANDS = [["pause", "Pause"], ["resume", "Resume"], ["clear", "Clear"], ["retry", "Retry"], ["skip", "Skip"]];
const ENDED = new Set(["saved", "failed", "abandoned", "superseded", "cancelled"]);

const chains = new Map();   // id -> chain
const laneElements = new Map();
const drawn = new Map();    // id -> the row's element, of those that are drawn
const turned = new Map();   // id -> the first box that is shown, where somebody has looked back or ahead
let order = [];             // ids of the chains that are shown
let boot = "";
let now = 0;
let readonly = true;
let latencies = [];
let lanes = [];
let asked = false;          // whether a drawing is due
let room = 24;              // boxes that a row has room for

function say(text) {
  if (at("connection").textContent !== text) at("connection").textContent = text;
  if (text === "live") tell("");
}

function tell(problem) {
  at("problem").textContent = problem;
  at("problem").hidden = !problem;
}

async function command(name, what) {
  try {
    tell("");
    await post("do", { command: name, ...what });
  } catch (error) {
    tell(error.message);
  }
}

// What comes from the program

function take(state) {
  if (state.boot !== boot) {
    boot = state.boot;
    chains.clear();
    turned.clear();
  }
  ({ now, readonly, latencies, lanes } = state);
  for (const gone of state.gone) { chains.delete(gone); turned.delete(gone); }
  for (const chain of state.chains) chains.set(chain.id, chain);
  for (const element of document.querySelectorAll(".changes")) element.hidden = readonly;
  if (state.chains.some((chain) => isShown(chain.boxes))) look(shownSave(), { readonly });
  draw();
}

// What is drawn: once for each frame at most, and only the rows that are seen

function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    const wanted = at("filter").value.toLowerCase();
    order = [...chains.values()].filter((chain) => !wanted || chain.title.toLowerCase().includes(wanted)).map((chain) => chain.id);
    const number = `${chains.size} chain${chains.size === 1 ? "" : "s"}`;
    at("count").textContent = order.length === chains.size ? number : `${order.length} of ${number}`;
    drawLanes();
    if (at("timeline").hidden) drawRows();
    else drawTimeline(() => ({ names: new Map(order.map((id) => [id, chains.get(id)?.title ?? ""])), now }), tell);
  });
}

function drawRows() {
  const scroll = at("scroll");
  const height = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
  const first = Math.max(0, Math.floor(scroll.scrollTop / height) - SPARE);
  const most = Math.ceil(scroll.clientHeight / height) + 2 * SPARE;
  const ids = order.slice(first, first + most);
  const width = at("rows").querySelector(".boxes")?.clientWidth ?? scroll.clientWidth / 2;
  const boxes = Math.min(24, Math.max(2, Math.floor((width - BESIDE) / BOX)));
  if (boxes !== room) { room = boxes; for (const element of drawn.values()) element.chain = null; }
  at("space").style.height = `${order.length * height}px`;
  at("rows").style.top = `${first * height}px`;
  for (const [id, element] of drawn) {
    if (ids.includes(id)) continue;
    if (element.contains(document.activeElement)) scroll.focus({ preventScroll: true }); // else the focus would be lost
    element.remove();
    drawn.delete(id);
  }
  let before = null;
  for (const id of ids) {
    let element = drawn.get(id);
    if (!element) { element = row(id); drawn.set(id, element); }
    const place = before ? before.nextSibling : at("rows").firstChild;
    if (element !== place) at("rows").insertBefore(element, place);
    fill(element, chains.get(id));
    before = element;
  }
}

function row(id) {
  const element = make("li", undefined, { class: "chain", "data-chain": id });
  element.append(make("span", "", { class: "title", dir: "auto" }), make("ol", undefined, { class: "boxes" }));
  const group = make("span", undefined, { class: "changes", role: "group" });
  for (const [name, label] of COMMANDS) {
    const button = make("button", label, { type: "button", "data-command": name });
    button.addEventListener("click", () => command(name, { chain: id }));
    group.append(button);
  }
  element.append(group);
  return element;
}

function fill(element, chain) {
  if (element.chain === chain) return;
  element.chain = chain;
  const [title, boxes, group] = element.children;
  title.textContent = chain.title;
  title.title = chain.title;
  boxes.setAttribute("aria-label", `Saves of ${chain.title}`);
  group.setAttribute("aria-label", chain.title);
  group.hidden = readonly;
  const active = element.contains(document.activeElement) ? document.activeElement : null;
  for (const button of group.children) {
    const name = button.dataset.command;
    button.hidden = (name === "pause" && chain.paused) || (name === "resume" && !chain.paused) ||
      ((name === "retry" || name === "skip") && chain.halted === null);
  }
  place(boxes, items(chain, element.kept ??= new Map()));
  if (active?.hidden) group.querySelector("button:not([hidden])")?.focus();
  else if (active && !element.contains(document.activeElement)) boxes.querySelector("[data-save]")?.focus();
}

// Makes these the children, and lets those that are there already stay: whoever presses one, or has the focus on it, does not lose it.
function place(parent, wanted) {
  const staying = new Set(wanted);
  for (const child of [...parent.children]) if (!staying.has(child)) child.remove();
  wanted.forEach((child, index) => { if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null); });
}

// What stands in a row: as many boxes as there is room for, around the first that has not ended, and buttons for the others.
function items(chain, kept) {
  const all = chain.boxes;
  const open = all.findIndex((box) => !ENDED.has(box.state));
  const latest = Math.max(0, (open < 0 ? all.length : Math.min(all.length, open + Math.ceil(room * 0.6))) - room);
  const first = Math.min(turned.get(chain.id) ?? latest, Math.max(0, all.length - room));
  const earlier = first + chain.dropped, later = all.length + chain.more - first - room;
  const reused = new Map();
  const keep = (key, made) => { const one = kept.get(key) ?? made(); reused.set(key, one); return one; };
  const found = [];
  if (earlier > 0) found.push(turn(keep("earlier", () => turnButton(chain.id, "earlier")), `‹ ${earlier}`, `${earlier} earlier saves`, first ? Math.max(0, first - room) : null, latest));
  for (const box of all.slice(first, first + room)) found.push(item(keep(box.id, () => boxButton(box.id)), box));
  if (later > 0) found.push(turn(keep("later", () => turnButton(chain.id, "later")), `${later} ›`, `${later} later saves`, first + room < all.length ? first + room : null, latest));
  if (chain.idle && !chain.paused && chain.halted === null) found.push(make("li", "done", { class: "done", "data-state": "done" }));
  if (chain.paused) found.push(make("li", "paused", { class: "done" }));
  if (chain.halted !== null) found.push(make("li", `halted by ${chain.halted}`, { class: "done", "data-state": "failed" }));
  kept.clear();
  for (const [key, one] of reused) kept.set(key, one);
  return found;
}

function boxButton(id) {
  const element = make("li"), button = make("button", "", { type: "button", "data-save": id });
  button.addEventListener("click", () => look(id, { focus: true, readonly }));
  element.append(button);
  return element;
}

function item(element, box) {
  if (element.box === box) return element;
  element.box = box;
  const button = element.firstChild, state = box.state.replace(/_/g, " ");
  button.textContent = `${box.seq}${box.attempts > 1 ? ` ×${box.attempts}` : ""}`;
  button.dataset.state = state;
  button.setAttribute("aria-label", `${box.verb} ${box.seq}: ${state}${box.attempts > 1 ? `, ${box.attempts} attempts` : ""}`);
  return element;
}

// A button that shows other boxes of the chain.
function turnButton(id, name) {
  const element = make("li"), button = make("button", "", { type: "button", class: "turn", "data-turn": name });
  button.addEventListener("click", () => {
    if (element.to >= element.latest) turned.delete(id); else turned.set(id, element.to);
    const line = drawn.get(id);
    if (line) { line.chain = null; fill(line, chains.get(id)); }
  });
  element.append(button);
  return element;
}

// `to` is null where those are not kept, or not told of.
function turn(element, text, label, to, latest) {
  Object.assign(element, { to, latest });
  const button = element.firstChild;
  button.textContent = text;
  button.title = label;
  button.setAttribute("aria-label", label);
  button.disabled = to === null;
  return element;
}

// Arrows go from box to box, and from row to row.
function arrow(event) {
  const button = event.target.closest?.(".chain button");
  if (!button) return;
  const line = button.closest(".chain");
  const along = { ArrowLeft: -1, ArrowRight: 1 }[event.key], across = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (along) {
    const buttons = [...line.querySelectorAll("button:not([hidden], [disabled])")];
    buttons[buttons.indexOf(button) + along]?.focus();
  } else if (across) {
    const other = across < 0 ? line.previousElementSibling : line.nextElementSibling;
    const selector = button.dataset.command ? `[data-command="${button.dataset.command}"]:not([hidden])` : "[data-save]";
    const there = [...(other?.querySelectorAll(selector) ?? [])].at(-1) ?? other?.querySelector("button:not([hidden], [disabled])");
    there?.focus();
    there?.scrollIntoView({ block: "nearest" });
  } else return;
  event.preventDefault();
}

// Lanes

function drawLanes() {
  const recent = latencies.filter(([end]) => end > now - 5).length / 5;
  const parts = lanes.map((lane, index) => {
    const element = laneElements.get(lane.id) || laneElement(lane.id);
    laneElements.set(lane.id, element);
    const words = [
      `${lane.in_flight} of ${lane.max_in_flight} in flight`, `${lane.ready} ready`, `${lane.long} long`,
      lane.congested ? "congested" : "not congested", ...(lane.paused ? ["paused"] : []), ...(lane.signing_in ? ["signing in"] : []),
      ...(lane.given_up ? [`${lane.given_up} given up, still running`] : []),
    ];
    const text = `Lane ${index + 1}: ${words.join(", ")}`;
    if (element.firstChild.textContent !== text) element.firstChild.textContent = text;
    for (const button of element.querySelectorAll("button")) {
      button.hidden = readonly;
      button.setAttribute("aria-pressed", String(lane.max_batch === Number(button.dataset.size)));
    }
    return element;
  });
  if (parts.length !== at("lanes").children.length || parts.some((part, index) => part !== at("lanes").children[index])) {
    at("lanes").replaceChildren(...parts);
  }
  const highest = Math.max(0.001, ...latencies.map(([, seconds]) => seconds));
  const points = latencies.map(([, seconds], index) => `${(index / Math.max(1, latencies.length - 1)) * 200},${40 - (seconds / highest) * 38}`);
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.join(" "));
  at("latency").replaceChildren(line);
  const last = latencies.length ? `; the latest took ${latencies.at(-1)[1].toFixed(3)} s, of these the longest ${highest.toFixed(3)} s` : "";
  at("rate").textContent = `${recent.toFixed(1)} attempts a second${last}`;
}

function laneElement(id) {
  const element = make("p", undefined, { class: "lane", "data-lane": id });
  element.append(make("span", ""));
  for (const size of [1, 4, 100]) {
    const button = make("button", `Batch ${size}`, { type: "button", "data-size": size });
    button.addEventListener("click", () => command("batch", { lane: id, size }));
    element.append(" ", button);
  }
  return element;
}

// What is pressed

at("rows").addEventListener("keydown", arrow);
at("scroll").addEventListener("scroll", draw, { passive: true });
at("filter").addEventListener("input", draw);
at("zoom").addEventListener("input", draw);
at("close").addEventListener("click", close);
at("cancel").addEventListener("click", () => command("cancel", { save: shownSave() }));
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && shownSave() !== null) close(); });
for (const button of document.querySelectorAll("[data-all]")) {
  button.addEventListener("click", () => command(button.dataset.all, { all: true }));
}
at("view").addEventListener("click", () => {
  const timeline = at("timeline").hidden;
  at("timeline").hidden = !timeline;
  at("scroll").hidden = timeline;
  at("view").setAttribute("aria-pressed", String(timeline));
  draw();
});
listenToButtons(tell);
new ResizeObserver(draw).observe(at("scroll"));
listen("events", take, say);
