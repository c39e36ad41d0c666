// How a state looks, the same on all pages: a sign and words beside its colour, for who cannot tell colours apart, or sees none.

const SIGNS = {
  preparing: "…", queued: "·", "in flight": "▸", "backing off": "↻", "in doubt": "?",
  saved: "✓", failed: "✗", abandoned: "¿", superseded: "»", cancelled: "–",
};
const WAITING = new Set(["preparing", "queued", "in flight", "backing off", "in doubt"]);

export const waits = (box) => WAITING.has(box.state);

// What is written on a box, and what is read out.
export function marked(box) {
  const name = String(box.name ?? box.seq), letters = [...name];
  const repeated = box.attempts > 1 ? box.attempts : 0;
  return {
    text: `${SIGNS[box.state] ?? ""}\u2009${letters.length > 12 ? `${letters.slice(0, 11).join("")}…` : name}${repeated ? ` ×${repeated}` : ""}`,
    label: `${box.verb} ${name}: ${box.state}${repeated ? `, ${repeated} attempts` : ""}`,
  };
}

// What is said of the chain behind its boxes: [words, state].
export function tags(chain) {
  const latest = chain.boxes.at(-1);
  const said = [];
  if (chain.paused) said.push(["paused", "paused"]);
  if (chain.halted !== null) said.push([`halted by ${chain.halted}`, "failed"]);
  // Only where it has emptied by itself: a chain that was cleared, or has had nothing on it, is not done.
  if (!said.length && chain.idle && latest && latest.state !== "cancelled") said.push(["done", "done"]);
  return said;
}

export function legend(make) {
  return Object.entries(SIGNS).map(([state, sign]) => {
    const item = make("li");
    item.append(make("span", sign, { class: "sign", "data-state": state, "aria-hidden": "true" }), ` ${state}`);
    return item;
  });
}
