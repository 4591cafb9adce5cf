// Numbers and times as people read them, and elements made from text: whatever comes from a peer goes
// through `textContent`, so it stays text.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const exact = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** A count or a rate: `12,345`, `3.5`. */
export function number(value) {
  return Number.isInteger(value) || Math.abs(value) >= 100 ? whole.format(value) : exact.format(value);
}

/** Seconds, in three digits and a unit that fits: `870 µs`, `3.42 ms`, `12.0 s`, `4 min 05 s`. */
export function duration(seconds) {
  const size = Math.abs(seconds);
  if (size < 1e-3) return `${Math.round(seconds * 1e6)} µs`;
  if (size < 1) return `${(seconds * 1e3).toPrecision(3)} ms`;
  if (size < 100) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 100) return `${minutes} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

/** Bytes: `54.3 MiB`. */
export function bytes(value) {
  return value < 1024 ** 3 ? `${exact.format(value / 1024 ** 2)} MiB` : `${exact.format(value / 1024 ** 3)} GiB`;
}

/** The time of day of a moment, in seconds since 1970: `14:03:59`. */
export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

/** A new element with a class, and children that are elements or text. */
export function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** Change a text only if it is another: a text that is selected, or read aloud, is left alone. */
export function say(where, text) {
  if (where.textContent !== text) where.textContent = text;
}
