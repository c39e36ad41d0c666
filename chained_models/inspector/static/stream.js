// What the pages of the inspector and of the demo have in common: asking with the token, and hearing of changes.

const RETRY = 1000;     // milliseconds until a lost connection is tried again
const REFUSED = 15000;  // and if we were refused: only another address helps, or a server that was started anew
const SILENT = 15000;   // without a word the connection is lost, as after a sleep; each stream lasts 5 s, then the next is asked for

export const at = (id) => document.getElementById(id);

export let token = "";
let wake = () => {};    // tries again now

// The token is moved from the address to where only this page finds it: not for passers-by, bookmarks and pictures of the screen.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  token = given || history.state?.token || "";
  if (given) history.replaceState({ token }, "", location.pathname + location.search);
}
takeToken();
addEventListener("hashchange", () => { takeToken(); wake(); });
addEventListener("online", () => wake());

export function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// Sets what differs only: what has not changed is neither drawn nor read out again.
export function put(element, text, attributes = {}) {
  if (element.textContent !== text) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

// What has gone wrong, until it is put away.
export function tell(problem) {
  put(at("problem"), problem);
  at("dismiss").hidden = at("problem").hidden = !problem;
}
at("dismiss").addEventListener("click", () => tell(""));

export async function call(path, options = {}) {
  const headers = { "X-Chained-Token": token, ...options.headers };
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  if (!response.ok) {
    const text = await response.text();
    let problem = text;
    try { problem = JSON.parse(text).problem; } catch { /* it is plain text */ }
    throw Object.assign(new Error(problem || response.statusText), { status: response.status });
  }
  return response;
}

export const post = (path, what) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what) });

// Calls take(state) for each change, for ever; after a lost connection it goes on behind the last one. How it stands
// is said on the page; changed() is called when that changes.
// A page that is not seen lets go of its connection: a browser has six for one server, and others may be open.
export async function listen(path, take, changed = () => {}) {
  const title = document.title;
  let said = "";
  const say = (text) => {
    if (text === said) return;  // the next stream is no news
    said = text;
    put(at("connection"), text);
    changed();
    if (text === "live") tell("");
    document.title = text === "live" ? title : `not connected · ${title}`;
  };
  const place = { last: "" };
  for (;;) {
    if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
    if (document.hidden) continue;
    let wait = RETRY;
    try {
      const how = await heard(path, place, take, () => say("live"));
      if (how === "hidden" || how === "again") continue;
      say(how);
    } catch (error) {
      if (error.status === 403) wait = REFUSED;
      say(`not connected (${error.message}); trying again`);
    }
    await new Promise((resolve) => { wake = resolve; setTimeout(resolve, wait); });
  }
}

// Hears until the end, and says how it came.
async function heard(path, place, take, connected) {
  const stop = new AbortController();
  let how = "the program has ended, or its server; trying again", timer;
  const end = (why) => { how = why; stop.abort(); };
  const alive = () => { clearTimeout(timer); timer = setTimeout(() => end("nothing was heard for 15 seconds; trying again"), SILENT); };
  const seen = () => { if (document.hidden) end("hidden"); };
  document.addEventListener("visibilitychange", seen);
  try {
    alive();
    const response = await call(path, { signal: stop.signal, ...(place.last ? { headers: { "Last-Event-ID": place.last } } : {}) });
    connected();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let buffer = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return how;
      alive();
      buffer += value;
      let cut;
      while ((cut = buffer.indexOf("\n\n")) >= 0) {
        const event = parsed(buffer.slice(0, cut));
        buffer = buffer.slice(cut + 2);
        if (event.name === "again") how = "again";
        else if (event.name === "end") how = "the inspector was closed; trying again";
        else if (event.data) { take(JSON.parse(event.data)); place.last = event.id; }
      }
    }
  } catch (error) {
    if (stop.signal.aborted) return how;
    throw error;
  } finally {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", seen);
    stop.abort();  // else what could not be understood would leave it open
  }
}

function parsed(event) {
  const found = { id: "", data: "", name: "message" };
  for (const line of event.split("\n")) {
    if (line.startsWith("id: ")) found.id = line.slice(4);
    else if (line.startsWith("data: ")) found.data += line.slice(6);
    else if (line.startsWith("event: ")) found.name = line.slice(7);
  }
  return found;
}
