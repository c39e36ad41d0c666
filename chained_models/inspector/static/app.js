// The page of the inspector. Whatever comes from the program is set as text, never as markup.

import { at, call, listen, make, post } from "./stream.js";

const HEIGHT = 44;          // of a row, as in style.css
const SPARE = 6;            // rows drawn beyond what is seen
const SVG = "http://www.w3.org/2000/svg";
const COMMANDS = [["pause", "Pause"], ["resume", "Resume"], ["clear", "Clear"], ["retry", "Retry"], ["skip", "Skip"]];

const chains = new Map();   // id -> chain
const laneElements = new Map();
const drawn = new Map();    // id -> the row's element, of those that are drawn
let order = [];             // ids of the chains that are shown
let boot = "";
let now = 0;
let readonly = true;
let latencies = [];
let lanes = [];
let shown = null;           // the save that is looked at
let asked = false;          // whether a drawing is due

function say(text) {
  at("connection").textContent = text;
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
  }
  now = state.now;
  readonly = state.readonly;
  latencies = state.latencies;
  lanes = state.lanes;
  for (const gone of state.gone) chains.delete(gone);
  for (const chain of state.chains) chains.set(chain.id, chain);
  for (const element of document.querySelectorAll(".changes")) element.hidden = readonly;
  if (shown !== null && state.chains.some((chain) => chain.boxes.some((box) => box.id === shown))) look(shown, false);
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
    at("count").textContent = order.length === chains.size ? `${chains.size} chains` : `${order.length} of ${chains.size} chains`;
    drawLanes();
    if (at("timeline").hidden) drawRows(); else drawTimeline();
  });
}

function drawRows() {
  const scroll = at("scroll");
  const first = Math.max(0, Math.floor(scroll.scrollTop / HEIGHT) - SPARE);
  const most = Math.ceil(scroll.clientHeight / HEIGHT) + 2 * SPARE;
  const ids = order.slice(first, first + most);
  at("space").style.height = `${order.length * HEIGHT}px`;
  at("rows").style.top = `${first * HEIGHT}px`;
  for (const [id, element] of drawn) if (!ids.includes(id)) { element.remove(); drawn.delete(id); }
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
  element.append(make("span", "", { class: "title" }), make("ol", undefined, { class: "boxes" }));
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
  group.setAttribute("aria-label", chain.title);
  group.hidden = readonly;
  for (const button of group.children) {
    const name = button.dataset.command;
    button.hidden = (name === "pause" && chain.paused) || (name === "resume" && !chain.paused) ||
      ((name === "retry" || name === "skip") && chain.halted === null);
  }
  const active = document.activeElement && boxes.contains(document.activeElement) ? document.activeElement.dataset.save : null;
  const items = [];
  if (chain.dropped) items.push(make("li", `+${chain.dropped}`, { class: "done", title: `${chain.dropped} earlier saves` }));
  for (const box of chain.boxes.slice(-24)) {
    const item = make("li");
    const repeated = box.attempts > 1 ? ` ×${box.attempts}` : "";
    const button = make("button", `${box.seq}${repeated}`, {
      type: "button", "data-state": box.state.replace(/_/g, " "), "data-save": box.id,
      "aria-label": `${box.verb} ${box.seq}: ${box.state.replace(/_/g, " ")}${box.attempts > 1 ? `, ${box.attempts} attempts` : ""}`,
    });
    button.addEventListener("click", () => look(box.id, true));
    item.append(button);
    items.push(item);
  }
  if (chain.idle && !chain.paused && chain.halted === null) items.push(make("li", "done", { class: "done", "data-state": "done" }));
  if (chain.paused) items.push(make("li", "paused", { class: "done" }));
  if (chain.halted !== null) items.push(make("li", `halted by ${chain.halted}`, { class: "done", "data-state": "failed" }));
  boxes.replaceChildren(...items);
  if (active) boxes.querySelector(`[data-save="${active}"]`)?.focus();
}

function drawLanes() {
  const recent = latencies.filter(([end]) => end > now - 5).length / 5;
  const parts = lanes.map((lane, index) => {
    const element = laneElements.get(lane.id) || laneElement(lane.id);
    laneElements.set(lane.id, element);
    const words = [
      `${lane.in_flight} of ${lane.max_in_flight} in flight`, `${lane.ready} ready`, `${lane.long} long`,
      lane.congested ? "congested" : "not congested", ...(lane.paused ? ["paused"] : []), ...(lane.signing_in ? ["signing in"] : []),
      ...(lane.given_up ? [`${lane.given_up} given up, still running`] : []), `${recent.toFixed(1)} attempts a second`,
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
  at("latency").setAttribute("aria-label", `Seconds of the latest attempts, up to ${highest.toFixed(3)}`);
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

// One save

async function look(id, focus) {
  let save;
  try {
    save = await (await call(`saves/${id}`)).json();
  } catch (error) {
    tell(error.message);
    return;
  }
  shown = id;
  at("detail").hidden = false;
  at("detail-title").textContent = `${save.verb} ${save.seq} of ${save.title}`;
  at("cancel").hidden = readonly || save.state !== "queued";
  const facts = make("dl");
  const add = (name, value) => { if (value !== null && value !== undefined && value !== "") facts.append(make("dt", name), make("dd", String(value))); };
  add("state", save.state.replace(/_/g, " "));
  add("why it waits", save.why_waiting);
  add("error", save.error);
  add("method", save.method);
  add("model", save.model);
  add("id", save.save_id);
  add("asked", time(save.asked));
  add("settled", save.settled && time(save.settled));
  add("set from the answer", save.taken.join(", "));
  add("kept as edited", save.kept.join(", "));
  add("version", save.answer && save.answer.version);
  const attempts = table("Attempts", ["attempt", "begun", "took", "error"], save.attempts.map((one) => [
    one.number + (one.together > 1 ? ` (with ${one.together - 1} others)` : ""), time(one.begun),
    one.ended === null ? "runs" : `${((one.ended - one.begun) * 1000).toFixed(1)} ms`, one.error || "",
  ]));
  const changed = table("Changed since the save in front of it", ["attribute", "before", "after"],
    save.changed.map((one) => [one.name, one.before ?? "", one.after ?? ""]));
  const sent = table("Attributes", ["attribute", "value"], Object.entries(save.sent).map(([name, value]) => [name, value ?? "not shown"]));
  const answer = table("Answer", ["attribute", "value"], Object.entries(save.answer ? save.answer.values : {}).map(([name, value]) => [name, value ?? "not shown"]));
  at("facts").replaceChildren(facts, ...[attempts, changed, sent, answer].filter(Boolean));
  if (focus) at("detail-title").focus();
}

function table(title, heads, rows) {
  if (!rows.length) return null;
  const element = make("table");
  element.append(make("caption", title));
  const head = make("tr");
  for (const name of heads) head.append(make("th", name, { scope: "col" }));
  element.append(head);
  for (const cells of rows) {
    const line = make("tr");
    for (const cell of cells) line.append(make("td", String(cell)));
    element.append(line);
  }
  return element;
}

const time = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 23);

// The timeline

async function drawTimeline() {
  let trace;
  try {
    trace = await (await call("trace.json")).json();
  } catch (error) {
    tell(error.message);
    return;
  }
  at("drawing").replaceChildren(picture(trace.traceEvents));
}

function picture(events) {
  const seconds = Number(at("zoom").value);
  const names = new Map(events.filter((one) => one.name === "thread_name").map((one) => [one.tid, one.args.name]));
  const bars = events.filter((one) => one.ph === "X" && order.includes(one.tid));
  const end = Math.max(now * 1e6, ...bars.map((one) => one.ts + one.dur));
  const begin = end - seconds * 1e6;
  const visible = bars.filter((one) => one.ts + one.dur >= begin);
  const lines = [...new Set(visible.map((one) => one.tid))].slice(0, 200);
  const width = 1000, left = 200, height = 20;
  const svg = document.createElementNS(SVG, "svg");
  const set = (element, attributes) => { for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value); return element; };
  const node = (tag, attributes, text) => { const one = set(document.createElementNS(SVG, tag), attributes); if (text !== undefined) one.textContent = text; svg.append(one); return one; };
  set(svg, { xmlns: SVG, viewBox: `0 0 ${width} ${Math.max(1, lines.length) * height + 20}`, width, height: Math.max(1, lines.length) * height + 20, role: "img", "aria-label": `Attempts of the last ${seconds} seconds` });
  const colours = { running: "#f5a623", failed: "#cf3f3f", done: "#3d9a50" };
  lines.forEach((tid, index) => node("text", { x: 4, y: index * height + 14, "font-size": 11, "font-family": "sans-serif", fill: "#808695" }, (names.get(tid) || "").slice(0, 28)));
  for (const one of visible) {
    const x = left + (Math.max(0, one.ts - begin) / (end - begin)) * (width - left);
    const wide = Math.max(1.5, (one.dur / (end - begin)) * (width - left));
    const bar = node("rect", { x: x.toFixed(1), y: lines.indexOf(one.tid) * height + 3, width: Math.min(wide, width - x).toFixed(1), height: height - 6, rx: 2, fill: colours[one.cat] });
    const title = document.createElementNS(SVG, "title");
    title.textContent = `${one.name}, attempt ${one.args.attempt}: ${(one.dur / 1000).toFixed(1)} ms${one.args.error ? `, ${one.args.error}` : ""}`;
    bar.append(title);
  }
  return svg;
}

function keep(name, blob) {
  const link = make("a", "", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function asSvg() {
  const svg = at("drawing").querySelector("svg");
  return svg && new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" });
}

function savePng() {
  const blob = asSvg();
  if (!blob) return;
  const image = new Image();
  const reader = new FileReader();
  reader.addEventListener("load", () => { image.src = reader.result; });
  image.addEventListener("load", () => {
    const canvas = make("canvas");
    canvas.width = image.width * 2;
    canvas.height = image.height * 2;
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((png) => keep("chained-models-timeline.png", png));
  });
  reader.readAsDataURL(blob);
}

// What is pressed

function close() {
  const id = shown;
  shown = null;
  at("detail").hidden = true;
  document.querySelector(`[data-save="${id}"]`)?.focus();
}

at("scroll").addEventListener("scroll", draw, { passive: true });
at("filter").addEventListener("input", draw);
at("zoom").addEventListener("input", draw);
at("close").addEventListener("click", close);
at("cancel").addEventListener("click", () => command("cancel", { save: shown }));
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && shown !== null) close(); });
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
at("svg").addEventListener("click", () => { const blob = asSvg(); if (blob) keep("chained-models-timeline.svg", blob); });
at("png").addEventListener("click", savePng);
at("trace").addEventListener("click", async () => {
  try { keep("chained-models-trace.json", await (await call("trace.json")).blob()); } catch (error) { tell(error.message); }
});
new ResizeObserver(draw).observe(at("scroll"));
listen("events", take, say);
