// One save, in all detail, for as long as it is looked at.

import { at, call, make } from "./stream.js";

const OFTEN = 250;          // milliseconds between two looks at what is shown already

let shown = null;           // the save that is looked at
let chain = null;           // and its chain
let words = "";             // what is drawn of it
let due = 0;                // the timer of the next look, until its answer has come
let late = false;           // whether something has changed since
let readonly = true;
let failed;                 // says what went wrong

export function begin(what) {
  failed = what.failed;
  at("close").addEventListener("click", close);
  at("cancel").addEventListener("click", () => what.act("cancel", { save: shown }));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && shown !== null) close(); });
}

export async function look(id, focus) {
  shown = id;
  if (focus) {
    words = "";
    clearTimeout(due);
    due = 0;
  }
  let save;
  try {
    save = await (await call(`saves/${id}`)).json();
  } catch (error) {
    if (shown !== id) return;  // meanwhile another one is looked at
    if (error.status === 404) gone(); else failed(error);
    return;
  }
  if (shown !== id) return;
  const now = JSON.stringify([save, readonly]);
  if (now !== words) draw(save);
  words = now;
  at("detail").hidden = false;
  if (focus) at("detail-title").focus();
}

// What came may be about the save that is looked at, or about one in front of it.
export function changed(state, anew) {
  readonly = state.readonly;
  if (shown === null) return;
  if (anew) { gone(); return; }
  if (state.chains.some((one) => one.id === chain)) renew();
}

// Not before the last answer has come: its values may take their time.
function renew() {
  late = due !== 0;
  if (late) return;
  const mine = due = setTimeout(async () => {
    if (shown !== null) await look(shown, false);
    if (due !== mine) return;  // meanwhile another one is looked at
    due = 0;
    if (late) renew();
  }, OFTEN);
}

function gone() {
  at("detail").hidden = false;
  at("cancel").hidden = true;
  if (!at("facts").querySelector(".gone")) at("facts").prepend(make("p", "This save is not kept any more; this is what was last seen of it.", { class: "gone", role: "status" }));
}

function close() {
  const id = shown;
  shown = null;
  at("detail").hidden = true;
  const box = document.querySelector(`[data-save="${id}"]`);
  (box ?? at("scroll")).focus();
}

function draw(save) {
  chain = save.chain;
  at("detail-title").replaceChildren(`${save.verb} ${save.seq} of `, make("bdi", save.title));
  at("cancel").hidden = readonly || save.state !== "queued";
  const facts = make("dl");
  const add = (name, value) => { if (value !== null && value !== undefined && value !== "") facts.append(make("dt", name), make("dd", String(value), { dir: "auto" })); };
  add("state", save.state);
  add("why it waits", save.why_waiting);
  add("error", save.error);
  add("method", save.method);
  add("model", save.model);
  add("id", save.save_id);
  add("asked (UTC)", time(save.asked));
  add("settled (UTC)", save.settled && time(save.settled));
  add("set from the answer", save.taken.join(", "));
  add("kept as edited", save.kept.join(", "));
  add("version", save.answer && save.answer.version);
  const attempts = table("Attempts", ["attempt", "begun (UTC)", "took", "error"], save.attempts.map((one) => [
    one.number + (one.together > 1 ? ` (with ${one.together - 1} others)` : ""), time(one.begun),
    one.ended === null ? "runs" : `${((one.ended - one.begun) * 1000).toFixed(1)} ms`, one.error || "",
  ]));
  const changed = table("Changed since the save in front of it", ["attribute", "before", "after"],
    save.changed.map((one) => [one.name, one.before ?? "", one.after ?? ""]));
  const sent = table("Attributes", ["attribute", "value"], Object.entries(save.sent).map(([name, value]) => [name, value ?? "not shown"]));
  const answer = table("Answer", ["attribute", "value"], Object.entries(save.answer ? save.answer.values : {}).map(([name, value]) => [name, value ?? "not shown"]));
  at("facts").replaceChildren(facts, ...[attempts, changed, sent, answer].filter(Boolean));
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
    for (const cell of cells) line.append(make("td", String(cell), { dir: "auto" }));
    element.append(line);
  }
  return element;
}

const time = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 23);
