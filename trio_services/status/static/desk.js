// What people do here: ask, sort, start a slow sort and cancel it, record a trace, cancel a task.

import { duration, element, number, say } from "./words.js";

const REPLY_SHOWN = 4000; // characters of a reply
const TICK = 200; // ms between two looks at the clock of a slow sort

const token = document.querySelector('meta[name="status-token"]').content;

/** What a response says: its text, its value if that is JSON, and for errors their message. */
async function read(response) {
  const text = await response.text();
  try {
    const value = JSON.parse(text);
    const error = value?.error;
    return error ? { ok: false, text: `${error.code}: ${error.message}` } : { ok: response.ok, text, value };
  } catch {
    return { ok: false, text: text || `status ${response.status}` };
  }
}

/** POST something that changes the server. */
function control(path, body) {
  const headers = { "Content-Type": "application/json", "X-Status-Token": token };
  return fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
}

/** Show a text below a form, as a failure or not. */
function reply(output, ok, text) {
  output.classList.toggle("failed", !ok);
  say(output, text.length > REPLY_SHOWN ? `${text.slice(0, REPLY_SHOWN)} …` : text);
}

/** Run the steps of a form; a server that cannot be reached is told as such. */
function onSubmit(form, steps) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const output = form.querySelector("output");
    try {
      await steps(new FormData(form), output);
    } catch (error) {
      reply(output, false, `no reply: ${error.message}`);
    }
  });
}

/** Wire the forms up. */
export function openDesk() {
  onSubmit(document.querySelector("#ask"), ask);
  onSubmit(document.querySelector("#sort"), sort);
  onSubmit(document.querySelector("#slow"), sortSlowly);
  document.querySelector("#trace").addEventListener("click", (event) => trace(event.target));
}

async function ask(fields, output) {
  const response = await fetch(`/query?${new URLSearchParams([...fields])}`);
  const { ok, text, value } = await read(response);
  if (!ok || !value) return reply(output, false, text);
  return reply(output, true, value.answer.join("\n") || `${value.rcode}, no records`);
}

async function sort(fields, output) {
  const began = performance.now();
  const response = await fetch("/sort", { method: "POST", body: fields.get("list") });
  const { ok, text } = await read(response);
  reply(output, ok, ok ? `${text}\nin ${duration((performance.now() - began) / 1000)}` : text);
}

/** Sort falling numbers, gnome sort's worst case, until it is done or cancelled. */
async function sortSlowly(fields, output) {
  const count = Number(fields.get("count"));
  const [start, cancel] = document.querySelectorAll("#slow button");
  const began = performance.now();
  const elapsed = () => duration((performance.now() - began) / 1000);
  const abort = new AbortController();
  cancel.onclick = () => abort.abort();
  start.disabled = true;
  cancel.disabled = false;
  output.setAttribute("aria-live", "off"); // or a screen reader would count along
  const clock = setInterval(() => reply(output, true, `sorting ${number(count)} numbers, ${elapsed()}`), TICK);
  const end = (ok, text) => {
    output.setAttribute("aria-live", "polite");
    reply(output, ok, text);
  };
  try {
    const body = JSON.stringify(Array.from({ length: count }, (_, at) => count - at));
    const response = await fetch("/sort?algorithm=gnome", { method: "POST", body, signal: abort.signal });
    const { ok, text } = await read(response);
    end(ok, ok ? `${number(count)} numbers sorted in ${elapsed()}` : text);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    end(true, `cancelled after ${elapsed()}, and its job with it`);
  } finally {
    clearInterval(clock);
    start.disabled = false;
    cancel.disabled = true;
  }
}

/** Start to record, or stop and save what was recorded. */
async function trace(button) {
  const said = document.querySelector("#trace-said");
  const stop = button.dataset.recording === "true";
  try {
    const response = await control(stop ? "/trace/stop" : "/trace/start", {});
    if (!response.ok) reply(said, false, (await read(response)).text);
    else if (stop) reply(said, true, `Saved ${save(await response.blob())}; open it in Perfetto or chrome://tracing.`);
    else reply(said, true, "Recording.");
  } catch (error) {
    reply(said, false, `no reply: ${error.message}`);
  }
}

/** Save a trace as a file; returns its name. */
function save(blob) {
  const link = element("a");
  link.href = URL.createObjectURL(blob);
  link.download = "trio-services-trace.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 0);
  return link.download;
}

/** Show whether a trace is being recorded: another page may have started it. */
export function showTracing(tracing) {
  const button = document.querySelector("#trace");
  button.dataset.recording = tracing;
  say(button, tracing ? "Stop and save" : "Record");
}

/** Cancel the task of a node of the tree; `said` gets how it went. */
export async function cancelTask(node, said) {
  try {
    const response = await control("/cancel", { task: node.number });
    const { ok, text } = await read(response);
    reply(said, ok, ok ? `Cancelled ${node.name}.` : `${node.name}: ${text}`);
  } catch (error) {
    reply(said, false, `no reply: ${error.message}`);
  }
}
