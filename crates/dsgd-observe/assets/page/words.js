// Numbers and times in words, and small helpers for elements.

const $ = (id) => document.getElementById(id);

/** An element with classes and children; text is always text, never markup. */
function el(tag, classes = "", ...children) {
  const node = document.createElement(tag);
  if (classes) node.className = classes;
  node.append(...children);
  return node;
}

/** Changes a text only where it is another: the browser has nothing to do else. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function classes(node, text) {
  if (node.className !== text) node.className = text;
}

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const count = (number) => grouped.format(number);

/** Three or four digits, whatever the size. */
function figure(number) {
  if (number === null || number === undefined || Number.isNaN(number)) return "–";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
  const size = Math.abs(number);
  if (size >= 1e6) return number.toExponential(2).replace("e+", "e");
  if (size >= 1000) return count(number);
  if (size >= 100) return number.toFixed(0);
  if (size >= 10) return number.toFixed(1);
  if (size >= 0.01) return number.toFixed(2);
  return size === 0 ? "0" : number.toExponential(1);
}

/** 950, 12.3k, 1.2M: for speeds and axes. */
function short(number) {
  if (number === null || number === undefined || !Number.isFinite(number)) return "–";
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(number) >= size) return trimmed((number / size).toPrecision(3)) + unit;
  }
  const size = Math.abs(number);
  if (size > 0 && size < 0.001) return number.toExponential(0);
  return trimmed(number.toPrecision(3));
}

const trimmed = (text) => (text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text);

function bytes(number) {
  for (const [size, unit] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (number >= size) return `${(number / size).toPrecision(3)} ${unit}`;
  }
  return number ? `${number} B` : "–";
}

/** `1h 02m`, `3m 07s`, `12s`. */
function duration(secs) {
  if (secs === null || secs === undefined || !Number.isFinite(secs)) return "–";
  const whole = Math.max(0, Math.floor(secs));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  if (days) return `${days}d ${two(hours)}h`;
  if (hours) return `${hours}h ${two(minutes)}m`;
  if (minutes) return `${minutes}m ${two(whole % 60)}s`;
  return `${whole}s`;
}

/** The same for an axis, where whole minutes and hours are most common. */
const tick = (secs) => duration(secs).replace(/ 00[sm]$/, "");

/** A time within the run, to the second or finer where it is young. */
const clock = (secs) => (secs < 10 ? `${secs.toFixed(1)}s` : duration(secs));

const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/** When something began, as the reader's clock has it. */
function moment(unixSecs) {
  if (!unixSecs) return "–";
  const then = new Date(unixSecs * 1000);
  const today = then.toDateString() === new Date().toDateString();
  const time = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  return new Intl.DateTimeFormat("en-GB", today ? time : { day: "numeric", month: "short", ...time }).format(then);
}

