// The last steps, worker by worker, and what happened beside them.

/** Rows of the picture: more could not be told apart. */
const MOST_ROWS = 16;

/** Steps that the picture spans, at most. */
const MOST_SHOWN = 160;

/** In the order of their happening; a gradient's own push is the first part of the one after it. */
const ORDER = ["push", "wait", "pull", "compute"];
const PHASE_WORDS = Object.fromEntries(PHASES);

const gantt = { boxes: [], pointed: null };

function renderTimeline() {
  const moments = state.moments.slice(-MOST_SHOWN);
  $("gantt").hidden = !moments.length;
  $("no-steps").hidden = moments.length > 0;
  if (!moments.length) return;
  const names = [...new Set(moments.map((moment) => moment.worker))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const shown = names.slice(0, MOST_ROWS);
  const took = (moment) => ORDER.reduce((sum, phase) => sum + moment[`${phase}_secs`], 0);
  const to = moments.at(-1).secs;
  // A single one that took very long must not make all others invisible.
  const ends = moments[0].secs;
  const usual = moments.map(took).sort((a, b) => a - b)[Math.floor(moments.length / 2)];
  const from = Math.max(Math.min(...moments.map((moment) => moment.secs - took(moment))), ends - 2 * usual);
  const length = Math.max(to - from, 1e-3);
  const more = names.length > shown.length ? `, ${shown.length} of ${names.length} workers` : "";
  say($("span"), `${moments.length} gradients in ${length < 1 ? `${(1000 * length).toFixed(0)} ms` : `${figure(length)} s`}${more}`);
  draw(moments, shown, from, length);
}

function draw(moments, names, from, length) {
  const canvas = $("gantt").firstElementChild;
  const width = Math.floor($("gantt").clientWidth - 32);
  const [row, top] = [Math.min(54, Math.max(18, Math.floor(270 / names.length))), 4];
  const height = top + row * names.length + 22;
  const dense = devicePixelRatio || 1;
  if (canvas.width !== width * dense || canvas.height !== height * dense) {
    [canvas.width, canvas.height] = [width * dense, height * dense];
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(dense, 0, 0, dense, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const label = Math.min(Math.max(...names.map((name) => pen.measureText(name).width)) + 12, 0.3 * width);
  const x = (secs) => label + ((secs - from) / length) * (width - label);
  const colours = Object.fromEntries(ORDER.map((phase) => [phase, css(`--${phase}`)]));
  const [quiet, panel] = [css("--quiet"), css("--panel")];
  names.forEach((name, at) => {
    pen.fillStyle = quiet;
    pen.fillText(shorten(pen, name, label - 8), 0, top + row * at + row / 2);
  });
  gantt.boxes = [];
  const ended = new Map();
  for (const moment of moments) {
    const line = names.indexOf(moment.worker);
    if (line < 0) continue;
    const y = top + row * line + 3;
    // A gradient may have waited for its step while the next one was begun.
    const least = Math.max(label, x(ended.get(moment.worker) ?? from));
    ended.set(moment.worker, moment.secs);
    let end = moment.secs;
    for (const phase of [...ORDER].reverse()) {
      const secs = moment[`${phase}_secs`];
      const [left, right] = [Math.max(x(end - secs), least), Math.max(x(end), least)];
      if (right > left) {
        pen.fillStyle = colours[phase];
        // Waiting is thin: nothing is done in it.
        if (phase === "wait") pen.fillRect(left, y + (row - 6) / 2 - 1.5, right - left, 3);
        else pen.fillRect(left, y, right - left, row - 6);
      }
      end -= secs;
    }
    const left = Math.max(x(end), least);
    pen.fillStyle = panel;
    pen.fillRect(x(moment.secs) - 0.5, y, 1, row - 6);
    gantt.boxes.push({ left, right: x(moment.secs), top: y, bottom: y + row - 6, moment });
  }
  pen.fillStyle = quiet;
  for (const share of [0, 0.5, 1]) {
    const before = (1 - share) * length;
    const text = before ? `−${before < 1 ? millis(before) : `${figure(before)} s`}` : clock(from + length);
    pen.textAlign = share === 0 ? "left" : share === 1 ? "right" : "center";
    pen.fillText(text, label + share * (width - label), height - 8);
  }
  pen.textAlign = "left";
  canvas.setAttribute("aria-label", summary(moments, names));
}

/** The picture in words. */
function summary(moments, names) {
  const of = (name) => {
    const own = moments.filter((moment) => moment.worker === name);
    const secs = PHASES.map(([phase]) => own.reduce((sum, moment) => sum + moment[`${phase}_secs`], 0));
    const all = secs.reduce((sum, one) => sum + one, 0) || 1;
    return `${name}: ${plural(own.length, "gradient")}, ${PHASES.map(([, word], at) => `${word} ${percent(secs[at] / all)}`).join(", ")}`;
  };
  return `Time of the last gradients. ${names.map(of).join(". ")}.`;
}

function shorten(pen, name, width) {
  let text = name;
  while (text.length > 3 && pen.measureText(text).width > width) text = `…${text.slice(text.startsWith("…") ? 2 : 1)}`;
  return text;
}

function startTimeline() {
  const [canvas, tip] = $("gantt").children;
  const hide = () => { tip.hidden = true; };
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = [event.offsetX, event.offsetY];
    const box = gantt.boxes.find((box) => x >= box.left && x <= box.right && y >= box.top && y <= box.bottom);
    if (!box) return hide();
    const parts = PHASES.filter(([phase]) => box.moment[`${phase}_secs`] > 0);
    const words = parts.map(([phase]) => `${PHASE_WORDS[phase]} ${millis(box.moment[`${phase}_secs`])}`);
    tip.textContent = [`${box.moment.worker}, step ${count(box.moment.step)}`, ...words].join("\n");
    tip.hidden = false;
    const room = $("gantt").clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(x + 28, room))}px`;
    tip.style.top = `${y + 14}px`;
  });
  canvas.addEventListener("pointerleave", hide);
  new ResizeObserver(() => schedule("moments")).observe($("gantt"));
}

const millis = (secs) => (secs < 1 ? `${(1000 * secs).toPrecision(3)} ms` : `${secs.toPrecision(3)} s`);

const KINDS = {
  joined: ["joined", ""], lost: ["lost", "fault"], refused: ["refused", "care"], freed: ["passed on", "care"],
  left_out: ["left out", "fault"], saved: ["saved", "good"], warning: ["warning", "care"], resumed: ["went on", "care"],
  hosts: ["hosts", ""], plan: ["plan", ""],
};

/** Events that are drawn; the search for older ones is the log's. */
const MOST_EVENTS = 200;

function renderEvents() {
  const faults = $("which").querySelector("input:checked").value === "faults";
  const wanted = state.happenings.filter((one) => !faults || KINDS[one.kind][1] === "fault" || KINDS[one.kind][1] === "care");
  const latest = wanted.slice(-MOST_EVENTS).reverse();
  $("no-events").hidden = latest.length > 0;
  $("events").replaceChildren(...latest.map((one) => {
    const [word, kind] = KINDS[one.kind];
    const who = one.worker ? `${one.worker}${one.kind === "joined" ? "" : ": "}` : "";
    const what = one.kind === "joined" ? "" : one.kind === "saved" ? one.words.replace(/^.*\//, "") : one.words;
    return el("li", kind, el("time", "", clock(one.secs)), el("span", "kind", word), el("span", "words", who + what));
  }));
}

