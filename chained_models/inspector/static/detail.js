// One save, looked at: what was sent, what has changed, each attempt, the answer, why it waits.

import { at, call, make } from "./stream.js";

const AGAIN = 1000; // milliseconds until a save that has not ended is looked at again: why it waits changes without it

let shown = null;   // its number
let looks = 0;      // an answer that comes late is of no use
let again;

export const isShown = (boxes) => shown !== null && boxes.some((box) => box.id === shown);

export async function look(id, { focus = false, readonly = true } = {}) {
  const mine = ++looks;
  shown = id;
  clearTimeout(again);
  let save;
  try {
    save = await (await call(`saves/${id}`)).json();
  } catch (error) {
    if (mine === looks) gone(error.message);
    return;
  }
  if (mine !== looks) return;
  at("detail").hidden = false;
  at("detail-title").textContent = `${save.verb} ${save.seq} of ${save.title}`;
  at("cancel").hidden = readonly || save.state !== "queued";
  at("facts").replaceChildren(...facts(save));
  if (focus) at("detail-title").focus();
  if (save.outcome === null) again = setTimeout(() => look(id, { readonly }), AGAIN);
}

export function close() {
  const id = shown;
  shown = null;
  looks += 1;
  clearTimeout(again);
  at("detail").hidden = true;
  document.querySelector(`[data-save="${id}"]`)?.focus();
}

export const shownSave = () => shown;

function gone(problem) {
  at("detail").hidden = false;
  at("cancel").hidden = true;
  at("facts").prepend(make("p", problem, { role: "status" }));
}

function facts(save) {
  const list = make("dl");
  const add = (name, value) => { if (value !== null && value !== undefined && value !== "") list.append(make("dt", name), make("dd", String(value))); };
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
  const values = (named) => Object.entries(named).map(([name, value]) => [name, value ?? "not shown"]);
  return [
    list,
    attempts,
    table("Changed since the save in front of it", ["attribute", "before", "after"], save.changed.map((one) => [one.name, one.before ?? "", one.after ?? ""])),
    table("Attributes", ["attribute", "value"], values(save.sent)),
    table("Answer", ["attribute", "value"], values(save.answer ? save.answer.values : {})),
  ].filter(Boolean);
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

const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false, fractionalSecondDigits: 3, hour: "2-digit", minute: "2-digit", second: "2-digit" });
