// The lanes: what each is at, and how long the latest attempts took.

import { at, make, put } from "./stream.js";

const SVG = "http://www.w3.org/2000/svg";
const COUNTED = 5;          // seconds of which the attempts are counted
const elements = new Map();

export function drawLanes({ lanes, latencies, ended, readonly, closed }, now, act) {
  const recent = ended.reduce((sum, [when, count]) => sum + (when > now - COUNTED ? count : 0), 0) / COUNTED;
  put(at("rate"), `${recent.toFixed(1)} attempts a second`);
  at("closed").hidden = !closed;
  for (const [id, element] of elements) if (!lanes.some((lane) => lane.id === id)) { element.remove(); elements.delete(id); }
  lanes.forEach((lane, index) => {
    let element = elements.get(lane.id);
    if (!element) { element = made(lane.id, act); elements.set(lane.id, element); at("lanes").append(element); }
    const words = [
      `${lane.in_flight} of ${lane.max_in_flight} in flight`, `${lane.ready} ready`, `${lane.long} long`,
      lane.congested ? "congested" : "not congested", ...(lane.paused ? ["paused"] : []), ...(lane.signing_in ? ["signing in"] : []),
      ...(lane.given_up ? [`${lane.given_up} given up, still running`] : []), `batches of ${lane.max_batch}`,
    ];
    put(element.firstChild, `Lane ${index + 1}: ${words.join(", ")}`, { "data-congested": String(Boolean(lane.congested)) });
    element.lastChild.hidden = readonly;
    put(element.lastChild, element.lastChild.textContent, { "aria-label": `Lane ${index + 1}` });
    for (const button of element.querySelectorAll("button")) button.setAttribute("aria-pressed", String(lane.max_batch === Number(button.dataset.size)));
  });
  chart(latencies.map(([, seconds]) => seconds));
  return recent > 0;
}

function chart(seconds) {
  const highest = Math.max(0.001, ...seconds);
  const middle = seconds.toSorted((one, other) => one - other)[seconds.length >> 1] ?? 0;
  const words = seconds.length ? `latest ${seconds.length} attempts: median ${took(middle)}, longest ${took(highest)}` : "no attempts yet";
  if (at("latency").dataset.points === String(seconds)) return;
  at("latency").dataset.points = String(seconds);
  const points = seconds.map((one, index) => `${(index / Math.max(1, seconds.length - 1)) * 200},${40 - (one / highest) * 38}`);
  const line = document.createElementNS(SVG, "polyline");
  line.setAttribute("points", points.join(" "));
  at("latency").replaceChildren(line);
  put(at("took"), words);
}

const took = (seconds) => (seconds < 1 ? `${(seconds * 1000).toFixed(0)} ms` : `${seconds.toFixed(2)} s`);

function made(id, act) {
  const element = make("p", undefined, { class: "lane", "data-lane": id });
  const group = make("span", undefined, { role: "group" });
  for (const size of [1, 4, 100]) {
    const button = make("button", `Batch ${size}`, { type: "button", "data-size": size });
    button.addEventListener("click", () => act("batch", { lane: id, size }));
    group.append(button, " ");
  }
  element.append(make("span", ""), " ", group);
  return element;
}
