// The status page: one event stream in, the page redrawn from each snapshot of it.
//
// The page holds no state of its own but the last minute of each figure and what the reader has folded.
// When the stream breaks it says so, and tries again; while it is hidden it draws nothing.

import { cancelTask, openDesk, showTracing } from "./desk.js";
import { Meters } from "./meters.js";
import { countTasks, treeOf } from "./snapshot.js";
import { Tree } from "./tree.js";
import { bytes, clock, duration, element, number, say } from "./words.js";

const STALLED = 6000; // ms without a snapshot, of which two come in a second
const RETRY = 2000; // ms
const SPEAK_EVERY = 10_000; // ms between two sentences to a screen reader

const find = (css) => document.querySelector(css);
const tree = new Tree(find("#tree"), (node) => cancelTask(node, find("#tree-said")));
const meters = new Meters(find("#meters"));
let last = null; // the last snapshot
let spoken = { at: -SPEAK_EVERY, text: "" };

openDesk();
connect();
document.addEventListener("visibilitychange", () => last && draw(last));

/** Listen, for as long as snapshots come. */
function connect() {
  const source = new EventSource("/events");
  const again = () => {
    clearTimeout(stalled);
    source.close();
    poll();
  };
  let stalled = setTimeout(again, STALLED);
  source.addEventListener("state", (event) => {
    clearTimeout(stalled);
    stalled = setTimeout(again, STALLED);
    take(JSON.parse(event.data), "live");
  });
  source.addEventListener("error", again);
}

/** Without a stream: look once, and try the stream again. A server with too many streams is no lost one. */
async function poll() {
  try {
    const response = await fetch("/state.json", { signal: AbortSignal.timeout(STALLED) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    take(await response.json(), "live, every few seconds");
  } catch {
    show("lost", "connection lost, trying again");
  }
  setTimeout(connect, RETRY);
}

function take(state, words) {
  if (last && last.pid !== state.pid) location.reload(); // another server: its page, its token
  last = state;
  meters.update(state);
  if (state.draining) show("draining", "draining: nothing new is accepted, what is in flight may end");
  else show("live", words);
  if (!document.hidden) draw(state);
}

/** Show how the server is, in words and by a lamp. */
function show(condition, words) {
  document.body.dataset.state = condition;
  if (find("#link-text").textContent === words) return;
  say(find("#link-text"), words);
  speak(words, true);
}

/** Tell a screen reader, rarely. */
function speak(text, now = false) {
  const time = performance.now();
  if (text === spoken.text || (!now && time - spoken.at < SPEAK_EVERY)) return;
  spoken = { at: time, text };
  say(find("#spoken"), text);
}

function draw(state) {
  say(find("#version"), state.version);
  say(find("#about"), `Python ${state.python} · process ${state.pid} · up ${duration(state.uptime)}`);
  for (const part of document.querySelectorAll("[data-if=control]")) part.hidden = !state.control;
  for (const part of document.querySelectorAll("[data-unless=control]")) part.hidden = state.control;
  showTracing(state.tracing);
  drawTree(state);
  drawCopies(state.copies ?? []);
  drawRecent(state.recent ?? []);
  drawCounters(state);
  const workers = state.sort?.workers;
  if (workers) speak(`${number(workers.running)} jobs running, ${number(workers.waiting)} waiting`);
}

function drawTree(state) {
  if (!state.tree) {
    say(find("#tree-size"), "too large to be sent here");
    return;
  }
  const root = treeOf(state.tree);
  tree.update(root, state.control);
  say(find("#tree-size"), `${number(countTasks(root))} tasks`);
}

function drawCopies(copies) {
  find("#copies").hidden = copies.length < 2;
  if (copies.length < 2) return;
  const rows = copies.map((copy) =>
    copy.missing
      ? [copy.pid ?? "–", copy.missing, "–", "–", "–"]
      : [copy.pid, copy.draining ? "draining" : "serving", duration(copy.uptime), bytes(copy.memory), duration(copy.loop_lag.now)],
  );
  fillTable(find("#copies tbody"), rows);
}

/** Write rows into a table, whose first cells are headings; cells that are there are kept. */
function fillTable(body, rows) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, at) => {
    const row = body.rows[at] ?? body.insertRow();
    cells.forEach((cell, column) => {
      if (!row.cells[column]) {
        row.append(element(column ? "td" : "th"));
        if (!column) row.cells[0].scope = "row";
      }
      say(row.cells[column], String(cell));
    });
  });
}

const SIGNS = { error: "✗", cancelled: "⊘", "busy-loop": "◷" };
let drawnRecent = "";

/** Draw what happened lately, the latest first; what happened again and again is one line with a count. */
function drawRecent(recent) {
  const text = JSON.stringify(recent);
  if (text === drawnRecent) return;
  drawnRecent = text;
  find("#recent-none").hidden = recent.length > 0;
  const lines = [];
  for (const event of recent) {
    const same = lines.at(-1);
    if (same?.text === event.text && same.kind === event.kind) same.times += 1;
    else lines.push({ ...event, times: 1 });
  }
  find("#recent").replaceChildren(...lines.map(drawEvent));
}

function drawEvent(event) {
  const sign = element("span", "sign", SIGNS[event.kind] ?? "•");
  sign.setAttribute("aria-hidden", "true");
  const times = element("b", "", event.times > 1 ? ` × ${event.times}` : "");
  const head = element("p", "", element("time", "", clock(event.at)), " ", sign, ` ${event.kind}`, times);
  return element("li", event.kind, head, element("p", "", event.text));
}

let drawnCounters = [];

/** Every number of a snapshot that the meters do not show, named by the way to it. */
function drawCounters(state) {
  const rows = [];
  const walk = (name, value) => {
    if (typeof value === "number") rows.push([name.replaceAll("_", " "), number(value)]);
    else if (value && typeof value === "object" && !Array.isArray(value)) {
      for (const [key, inner] of Object.entries(value)) {
        if (key !== "latency" && key !== "per_second") walk(`${name} ${key}`, inner);
      }
    }
  };
  walk("dns", state.dns);
  walk("sort", state.sort);
  const names = rows.map(([name]) => name);
  if (names.join() !== drawnCounters.join()) {
    drawnCounters = names;
    find("#counters").replaceChildren(...names.map((name) => element("div", "", element("dt", "", name), element("dd"))));
  }
  rows.forEach(([, value], at) => say(find("#counters").children[at].lastChild, value));
}
