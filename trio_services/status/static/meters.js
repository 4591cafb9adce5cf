// The figures: a value, a line of details, and a sparkline of the last minute for each.

import { bytes, duration, element, number, say } from "./words.js";

const SAMPLES = 120; // a minute, at two snapshots a second
const WIDTH = 240;
const HEIGHT = 36; // of the drawing; the style sheet stretches it
const SVG = "http://www.w3.org/2000/svg";

const latency = (of, what = "") =>
  of ? `${what}p50 ${duration(of.p50)} · p99 ${duration(of.p99)}` : "nothing to time yet";

/** What is shown, and how it is read from a snapshot; `null` is drawn as a gap. */
const METERS = [
  {
    title: "DNS queries",
    unit: "/s",
    read: (state) => state.dns?.per_second ?? null,
    show: number,
    detail: (state) => (state.dns ? latency(state.dns.latency, "batch ") : "not served"),
  },
  {
    title: "Lists sorted",
    unit: "/s",
    read: (state) => state.sort?.per_second ?? null,
    show: number,
    detail: (state) => (state.sort ? latency(state.sort.latency) : "not served"),
  },
  {
    title: "Jobs running",
    unit: "",
    read: (state) => state.sort?.workers?.running ?? null,
    show: number,
    detail: (state) =>
      state.sort?.workers ? `${number(state.sort.workers.waiting)} waiting · ${number(state.sort.workers.size)} workers` : "not served",
  },
  {
    title: "Connections",
    unit: "",
    read: (state) => (state.sort?.connections?.open ?? 0) + (state.dns?.tcp?.open ?? 0),
    show: number,
    detail: (state) => `${number(state.sort?.connections?.open ?? 0)} sort · ${number(state.dns?.tcp?.open ?? 0)} dns`,
  },
  {
    title: "Loop lag",
    unit: "",
    read: (state) => state.loop_lag?.now ?? null,
    show: duration,
    detail: (state) => (state.loop_lag ? `p99 ${duration(state.loop_lag.p99)}` : ""),
  },
  {
    title: "Memory",
    unit: "",
    read: (state) => state.memory ?? null,
    show: bytes,
    detail: (state) => `up ${duration(state.uptime)}`,
  },
];

/** The row of meters in a `<dl>`. */
export class Meters {
  constructor(list) {
    this.meters = METERS.map((meter) => new Meter(meter, list));
  }

  /** Take a snapshot. */
  update(state) {
    for (const meter of this.meters) meter.update(state);
  }
}

class Meter {
  constructor(meter, list) {
    this.meter = meter;
    this.samples = [];
    this.value = element("span", "value", "–");
    this.detail = element("dd", "detail");
    this.peak = element("dd", "peak");
    this.line = document.createElementNS(SVG, "path");
    this.area = document.createElementNS(SVG, "path");
    this.area.setAttribute("class", "area");
    const spark = document.createElementNS(SVG, "svg");
    spark.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    spark.setAttribute("preserveAspectRatio", "none");
    spark.setAttribute("aria-hidden", "true");
    spark.append(this.area, this.line);
    const figure = element("dd", "figure", this.value, " ", element("span", "unit", meter.unit));
    list.append(
      element("div", "meter", element("dt", "", meter.title), this.peak, figure, this.detail, element("dd", "spark", spark)),
    );
  }

  update(state) {
    const value = this.meter.read(state);
    this.samples = [...this.samples, value].slice(-SAMPLES);
    say(this.value, value === null ? "–" : this.meter.show(value));
    say(this.detail, this.meter.detail(state));
    const peak = Math.max(...this.samples.filter((sample) => sample !== null), 0);
    say(this.peak, peak > 0 ? `peak ${this.meter.show(peak)}` : "");
    this.draw(peak);
  }

  draw(peak) {
    const step = WIDTH / (SAMPLES - 1);
    const left = WIDTH - (this.samples.length - 1) * step;
    const points = this.samples
      .map((sample, place) => [left + place * step, HEIGHT - 1 - ((sample ?? 0) / (peak || 1)) * (HEIGHT - 3)])
      .map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`);
    this.line.setAttribute("d", `M${points.join("L")}`);
    this.area.setAttribute("d", `M${left.toFixed(1)} ${HEIGHT}L${points.join("L")}L${WIDTH} ${HEIGHT}Z`);
  }
}
