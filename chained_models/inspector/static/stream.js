// What the pages of the inspector and of the demo have in common: asking with the token, and hearing of changes.

const RETRY = 1000;    // milliseconds until a lost connection is tried again
const SILENCE = 15000; // milliseconds without a word after which it is lost: each stream lasts 5 seconds

export const at = (id) => document.getElementById(id);
export const token = new URLSearchParams(location.hash.slice(1)).get("token") || "";

export function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export async function call(path, options = {}) {
  const headers = { "X-Chained-Token": token, ...options.headers };
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  if (!response.ok) {
    const text = await response.text();
    let problem = text;
    try { problem = JSON.parse(text).problem; } catch { /* it is plain text */ }
    throw new Error(problem || response.statusText);
  }
  return response;
}

export const post = (path, what) =>
  call(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(what) });

// Calls take(state) for each change, for ever; after a lost connection it goes on behind the last one. say(text) tells how it stands.
export async function listen(path, take, say) {
  if (!token) {
    say("no token: open the whole address, as it was printed");
    return;
  }
  let last = "";
  for (;;) {
    const silence = new AbortController();
    let alarm;
    const heard = () => { clearTimeout(alarm); alarm = setTimeout(() => silence.abort(), SILENCE); };
    let ended = "";
    try {
      heard();
      const response = await call(path, { signal: silence.signal, headers: last ? { "Last-Event-ID": last } : {} });
      say("live");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let buffer = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        heard();
        buffer += value;
        let end;
        while ((end = buffer.indexOf("\n\n")) >= 0) {
          const event = parsed(buffer.slice(0, end));
          buffer = buffer.slice(end + 2);
          if (event.name !== "message") ended = event.name;
          else if (event.data) { last = event.id; take(JSON.parse(event.data)); }
        }
      }
      if (ended !== "again") say(ended ? "the inspector was closed; trying again" : "the program has ended, or its server; trying again");
    } catch (error) {
      say(`not connected (${silence.signal.aborted ? "nothing was heard" : error.message}); trying again`);
    }
    clearTimeout(alarm);
    if (ended !== "again") await new Promise((resolve) => setTimeout(resolve, RETRY));
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
