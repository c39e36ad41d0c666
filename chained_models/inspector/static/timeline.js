// The timeline: a bar for each attempt, chains stacked; kept as SVG, PNG, or as a trace.

import { at, call, make } from "./stream.js";

const SVG = "http://www.w3.org/2000/svg";
const PAUSE = 1000;  // milliseconds between two drawings
const LINES = 200;   // chains at most
const WIDTH = 1000, LEFT = 200, HEIGHT = 20, AXIS = 20;
const LARGEST = 16000; // pixels of a side that browsers draw
const COLOURS = { running: "#f5a623", failed: "#cf3f3f", done: "#3d9a50", abandoned: "#8e5bd0" };

let drawing = false;
let due = false;

// `named` is what is asked last which chains are shown, and what they are called.
export async function drawTimeline(named, tell) {
  due = true;
  if (drawing) return;
  drawing = true;
  while (due) {
    due = false;
    const seconds = Number(at("zoom").value);
    try {
      const trace = await (await call(`trace.json?seconds=${seconds}`)).json();
      at("drawing").replaceChildren(picture(trace.traceEvents, seconds, named()));
    } catch (error) {
      tell(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
  }
  drawing = false;
}

function picture(events, seconds, { names, now }) {
  const bars = events.filter((one) => one.ph === "X" && names.has(one.tid));
  const end = Math.max(now * 1e6, ...bars.slice(-1000).map((one) => one.ts + one.dur));
  const begin = end - seconds * 1e6;
  const visible = bars.filter((one) => one.ts + one.dur >= begin);
  const all = [...new Set(visible.map((one) => one.tid))];
  const lines = new Map(all.slice(0, LINES).map((tid, index) => [tid, index]));
  const high = Math.max(1, lines.size) * HEIGHT + AXIS;
  const style = getComputedStyle(document.body);
  const svg = node("svg", { xmlns: SVG, viewBox: `0 0 ${WIDTH} ${high}`, width: WIDTH, height: high, role: "img", "aria-label": `Attempts of the last ${seconds} seconds` });
  const text = (words, x, y, more = {}) => svg.append(node("text", { x, y, "font-size": 11, "font-family": "sans-serif", fill: style.color, ...more }, words));
  svg.append(node("rect", { class: "paper", width: WIDTH, height: high, fill: style.backgroundColor }));
  for (let tick = 0; tick <= 5; tick++) {
    const x = LEFT + (tick / 5) * (WIDTH - LEFT);
    svg.append(node("line", { x1: x, x2: x, y1: 0, y2: high - AXIS, stroke: "#808695", "stroke-opacity": 0.4 }));
    text(`−${(seconds * (1 - tick / 5)).toFixed(seconds < 20 ? 1 : 0)} s`, x - 2, high - 5, { "text-anchor": "end" });
  }
  for (const [tid, line] of lines) text(names.get(tid).slice(0, 28), 4, line * HEIGHT + 14);
  if (all.length > LINES) text(`and ${all.length - LINES} chains more`, 4, high - 5);
  for (const one of visible) {
    if (!lines.has(one.tid)) continue;
    const x = LEFT + (Math.max(0, one.ts - begin) / (end - begin)) * (WIDTH - LEFT);
    const wide = Math.max(1.5, ((one.ts + one.dur - Math.max(begin, one.ts)) / (end - begin)) * (WIDTH - LEFT));
    const bar = node("rect", { class: "attempt", x: Math.min(x, WIDTH - 1.5).toFixed(1), y: lines.get(one.tid) * HEIGHT + 3, width: Math.min(wide, Math.max(1.5, WIDTH - x)).toFixed(1), height: HEIGHT - 6, rx: 2, fill: COLOURS[one.cat] });
    bar.append(node("title", {}, `${one.name}, attempt ${one.args.attempt}: ${(one.dur / 1000).toFixed(1)} ms${one.args.error ? `, ${one.args.error}` : ""}`));
    svg.append(bar);
  }
  return svg;
}

function node(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// What is kept

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
    const scale = Math.min(2, LARGEST / image.width, LARGEST / image.height);
    canvas.width = image.width * scale;
    canvas.height = image.height * scale;
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((png) => keep("chained-models-timeline.png", png));
  });
  reader.readAsDataURL(blob);
}

export function listenToButtons(tell) {
  at("svg").addEventListener("click", () => { const blob = asSvg(); if (blob) keep("chained-models-timeline.svg", blob); });
  at("png").addEventListener("click", savePng);
  at("trace").addEventListener("click", async () => {
    try { keep("chained-models-trace.json", await (await call("trace.json")).blob()); } catch (error) { tell(error.message); }
  });
}
