// What people do here: ask, sort, start a slow sort and cancel it, record a trace, cancel a task.

import { duration, element, number, say } from "./words.js";

const SLOW_AT_ONCE = 4; // browsers open six connections to a host; one is the event stream, one is to spare
const REPLY_SHOWN = 4000; // characters of a reply
const TICK = 200; // ms between two looks at the clock of a slow sort

const token = document.querySelector('meta[name="status-token"]').content;

/** The text of a response: what it says, or what kind of failure it is. */
async function read(response) {
  const text = await response.text();
  try {
    const value = JSON.parse(text);
    const error = value?.error ?? (response.ok ? undefined : value?.detail);
    if (error === undefined) return { ok: response.ok, text, value };
    return { ok: false, text: typeof error === "string" ? `${error}${value.detail ? `: ${value.detail}` : ""}` : JSON.stringify(error) };
  } catch {
    return { ok: response.ok, text: text || `status ${response.status}` };
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
  document.querySelector("#slow").addEventListener("submit", (event) => {
    event.preventDefault();
    startSlowSort(Number(new FormData(event.target).get("count")));
  });
  document.querySelector("#trace").addEventListener("click", (event) => trace(event.target));
}

async function ask(fields, output) {
  const response = await fetch(`/query?${new URLSearchParams([...fields])}`);
  const { ok, text, value } = await read(response);
  if (!ok || !value) return reply(output, false, text);
  const lines = value.records ?? value.answers ?? [];
  reply(output, true, lines.length ? lines.join("\n") : `${value.rcode ?? value.summary}, no records`);
}

async function sort(fields, output) {
  const began = performance.now();
  const response = await fetch("/sort", { method: "POST", body: fields.get("list") });
  const { ok, text } = await read(response);
  reply(output, ok, ok ? `${text}\nin ${duration((performance.now() - began) / 1000)}` : text);
}

/** A list in descending order, gnome sort's worst case, and a button that cancels it. */
async function startSlowSort(count) {
  const running = document.querySelector("#running");
  const start = document.querySelector("#slow button");
  const began = performance.now();
  const elapsed = () => duration((performance.now() - began) / 1000);
  const abort = new AbortController();
  const said = element("output");
  const cancel = element("button", "cancel", "Cancel");
  cancel.type = "button";
  cancel.addEventListener("click", () => abort.abort());
  const job = element("li", "busy", said, cancel);
  for (const old of running.querySelectorAll(":not(.busy)")) if (old.parentElement === running) old.remove();
  running.append(job);
  const full = () => running.querySelectorAll(".busy").length >= SLOW_AT_ONCE;
  start.disabled = full();
  // Not in an <output>'s live region: a screen reader would count along.
  said.setAttribute("aria-live", "off");
  const clock = setInterval(() => say(said, `${number(count)} numbers, ${elapsed()}`), TICK);
  let outcome;
  try {
    const body = JSON.stringify(Array.from({ length: count }, (_, at) => count - at));
    const response = await fetch("/sort?algorithm=gnome", { method: "POST", body, signal: abort.signal });
    const { ok, text } = await read(response);
    outcome = ok ? `${number(count)} numbers sorted in ${elapsed()}` : text;
    job.classList.toggle("failed", !ok);
  } catch (error) {
    outcome = error.name === "AbortError" ? `cancelled after ${elapsed()}, and its job with it` : `no reply: ${error.message}`;
  }
  clearInterval(clock);
  said.setAttribute("aria-live", "polite");
  say(said, outcome);
  job.classList.remove("busy");
  cancel.remove();
  start.disabled = full();
}

/** Start to record, or stop and save what was recorded. */
async function trace(button) {
  const said = document.querySelector("#trace-said");
  const stop = button.getAttribute("aria-pressed") === "true";
  const response = await control(stop ? "/trace/stop" : "/trace/start", {});
  if (!response.ok) return reply(said, false, (await read(response)).text);
  if (!stop) return reply(said, true, "Recording.");
  const link = element("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = "trio-services-trace.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 0);
  return reply(said, true, "Saved; open it in Perfetto or chrome://tracing.");
}

/** Show whether a trace is being recorded: another page may have started it. */
export function showTracing(tracing) {
  const button = document.querySelector("#trace");
  button.setAttribute("aria-pressed", String(tracing));
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
