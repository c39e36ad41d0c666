// The timeline: a bar for each attempt, a line for each chain. Drawn with plain attributes, so that what is kept as a file looks the same.

import { at, call, make } from "./stream.js";

const SVG = "http://www.w3.org/2000/svg";
const SPANS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 12 * 3600, 24 * 3600];
const LINES = 200;          // so many chains are drawn, those that were busy last
const LEFT = 200, HEIGHT = 20, TOP = 44;
const OFTEN = 1000;         // milliseconds between two drawings of what goes on
const MOST = 16000;         // pixels that a picture may have on a side
const LOOKS = { done: "answered", failed: "failed", running: "runs", abandoned: "given up" };

let events = [];            // of the latest trace
let end = null;             // seconds at which the view ends; null: now
let last = -OFTEN, due = 0; // when it was asked last; the timer of the next time, until its answer has come
let held = "";              // what was asked for last, if it was not the present
let now, order, failed;     // what the page knows

export function begin(what) {
  ({ now, order, failed } = what);
  at("zoom").max = SPANS.length - 1;
  at("zoom").addEventListener("input", () => { draw(); renew(); });
  at("earlier").addEventListener("click", () => { end = (end ?? now()) - span() / 2; draw(); renew(); });
  at("later").addEventListener("click", () => { end = end === null || end + span() / 2 >= now() ? null : end + span() / 2; draw(); renew(); });
  at("latest").addEventListener("click", () => { end = null; renew(); });
  at("svg").addEventListener("click", () => keep("chained-models-timeline.svg", asSvg()));
  at("png").addEventListener("click", savePng);
  at("trace").addEventListener("click", async () => {
    try { keep("chained-models-trace.json", await (await call("trace.json")).blob()); } catch (error) { failed(error); }
  });
}

const span = () => SPANS[Number(at("zoom").value)];
const words = (seconds) => (seconds < 120 ? `${seconds} s` : seconds < 7200 ? `${seconds / 60} min` : `${seconds / 3600} h`);

// Asks anew for what is seen, once a second at most: all attempts of a thousand chains are some megabytes.
export function renew() {
  if (at("timeline").hidden || due) return;
  const past = () => (end === null ? "" : `${end} ${span()} ${order()}`);
  if (past() && past() === held) return;  // what has gone by holds still
  due = setTimeout(async () => {
    if (!at("timeline").hidden) {
      held = past();
      last = performance.now();
      try {
        const seconds = Math.ceil(span() + (end === null ? 0 : now() - end));
        events = (await (await call(`trace.json?seconds=${seconds}`)).json()).traceEvents;
        draw();
      } catch (error) {
        failed(error);
      }
    }
    due = 0;
    if (end !== null) renew();  // something else may have been pressed meanwhile
  }, Math.max(0, last + OFTEN - performance.now()));
}

export function draw() {
  const seconds = span();
  at("span").textContent = end === null ? `the last ${words(seconds)}` : `${words(seconds)} until ${clock(end)} UTC`;
  at("zoom").setAttribute("aria-valuetext", words(seconds));
  at("latest").setAttribute("aria-pressed", String(end === null));
  at("drawing").replaceChildren(picture(seconds, end ?? now()));
}

const clock = (moment) => new Date(moment * 1000).toISOString().slice(11, 21);

// XML has no control characters and no half of a surrogate pair, not even as references.
const legal = (text) => String(text).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/gu, "\ufffd");
const short = (text) => { const all = [...text]; return all.length > 28 ? `${all.slice(0, 27).join("")}…` : text; };

function picture(seconds, until) {
  const since = until - seconds;
  const wanted = new Set(order());
  const names = new Map(), visible = [], latest = new Map();
  for (const one of events) {
    if (one.name === "thread_name") names.set(one.tid, one.args.name);
    if (one.ph !== "X" || !wanted.has(one.tid) || one.ts / 1e6 > until || (one.ts + one.dur) / 1e6 < since) continue;
    visible.push(one);
    latest.set(one.tid, Math.max(latest.get(one.tid) ?? 0, one.ts));
  }
  const busiest = [...latest.keys()].sort((one, other) => latest.get(other) - latest.get(one)).slice(0, LINES);
  const lines = new Map(busiest.sort((one, other) => one - other).map((tid, index) => [tid, index]));
  const style = getComputedStyle(document.documentElement);
  const [paper, ink, quiet, line, done, failure, running, gone] =
    ["paper", "ink", "quiet", "line", "saved", "failed", "running", "doubt"].map((name) => hex(style, `--${name}`));
  const fills = { done, failed: failure, running, abandoned: gone };
  const width = Math.max(700, Math.floor(at("drawing").clientWidth) || 1000), right = width - 10;
  const tall = TOP + Math.max(1, lines.size) * HEIGHT + 8;
  const svg = node("svg", { xmlns: SVG, viewBox: `0 0 ${width} ${tall}`, width, height: tall, role: "img", "font-family": "sans-serif", "font-size": 11 });
  const add = (tag, attributes, text) => { const one = node(tag, attributes, text); svg.append(one); return one; };
  add("rect", { width, height: tall, fill: paper });
  let x = LEFT;
  for (const [state, said] of Object.entries(LOOKS)) {
    svg.append(bar(state, x, 5, 18, fills[state], ink));
    add("text", { x: x + 23, y: 15, fill: ink }, said);
    x += 90;
  }
  const left = Math.max(0, latest.size - LINES);
  if (left) add("text", { x: 4, y: 15, fill: ink }, `${LINES} of ${latest.size} chains`);
  for (let part = 0; part <= 4; part++) {
    const place = LEFT + (part / 4) * (right - LEFT);
    add("line", { x1: place, x2: place, y1: TOP - 6, y2: tall, stroke: line });
    add("text", { x: place, y: TOP - 10, fill: quiet, "text-anchor": part === 4 ? "end" : part ? "middle" : "start" }, clock(since + (part / 4) * seconds));
  }
  for (const [tid, index] of lines) add("text", { x: 4, y: TOP + index * HEIGHT + 14, fill: quiet }, legal(short(names.get(tid) ?? "")));
  if (!lines.size) add("text", { x: LEFT + 8, y: TOP + 14, fill: ink }, "no attempts in this time");
  const counts = {};
  for (const one of visible) {
    counts[one.cat] = (counts[one.cat] ?? 0) + 1;
    if (!lines.has(one.tid)) continue;
    const place = (moment) => LEFT + (Math.min(Math.max(moment - since, 0), seconds) / seconds) * (right - LEFT);
    const begun = place(one.ts / 1e6), wide = Math.max(1.5, place((one.ts + one.dur) / 1e6) - begun);
    const drawn = bar(one.cat, begun, TOP + lines.get(one.tid) * HEIGHT + 3, wide, fills[one.cat] ?? ink, ink);
    const said = `${one.name}, attempt ${one.args.attempt}, ${LOOKS[one.cat] ?? one.cat}: ${(one.dur / 1000).toFixed(1)} ms`;
    drawn.append(node("title", {}, legal(one.args.error ? `${said}, ${one.args.error}` : said)));
    svg.append(drawn);
  }
  const told = Object.entries(counts).map(([state, count]) => `${count} ${LOOKS[state] ?? state}`).join(", ");
  svg.setAttribute("aria-label", `Attempts in ${words(seconds)} until ${clock(until)} UTC, of ${latest.size} chains: ${told || "none"}`);
  return svg;
}

// Each state has a shape of its own: full, low, open at the side, framed.
function bar(state, x, y, width, fill, ink) {
  const high = HEIGHT - 6;
  const shapes = {
    failed: { y: y + high / 2, height: high / 2, fill },
    running: { y, height: high, fill, stroke: ink, "stroke-dasharray": "2 2" },
    abandoned: { y: y + 1, height: high - 2, fill: "none", stroke: fill, "stroke-width": 2 },
  };
  return node("rect", { x: x.toFixed(1), width: width.toFixed(1), rx: 2, class: `bar ${state}`, ...(shapes[state] ?? { y, height: high, fill }) });
}

function node(tag, attributes, text) {
  const one = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) one.setAttribute(name, value);
  if (text !== undefined) one.textContent = text;
  return one;
}

// A colour as it is now, in words that programs know which have never heard of light-dark().
function hex(style, name) {
  const both = style.getPropertyValue(name).match(/#[0-9a-f]+/gi);
  return both[matchMedia("(prefers-color-scheme: dark)").matches ? 1 : 0];
}

function keep(name, blob) {
  if (!blob) return;
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
  const image = new Image(), reader = new FileReader();
  reader.addEventListener("load", () => { image.src = reader.result; });
  image.addEventListener("error", () => failed(new Error("this picture cannot be drawn; keep it as SVG")));
  image.addEventListener("load", () => {
    const scale = Math.min(2, MOST / Math.max(image.width, image.height));
    const canvas = make("canvas", undefined, { width: Math.floor(image.width * scale), height: Math.floor(image.height * scale) });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((png) => (png ? keep("chained-models-timeline.png", png) : failed(new Error("this picture is too large; keep it as SVG"))));
  });
  reader.readAsDataURL(blob);
}
