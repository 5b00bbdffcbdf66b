// The curves of this run, and of runs that are laid over it.

const view = { axis: "secs", measure: null, log: true, smooth: true };

/** Other runs by name: { series, metrics, colour }. */
const overlays = new Map();

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** What is drawn: a number for each bucket of a series; `sum` where a mean over several is one of sums. */
const CHARTS = [
  { id: "metric", title: () => metricTitle(), large: true, smooth: true, floor: null,
    logarithmic: () => view.log, values: (series, metrics) => metricCurve(series, measure(chosen().name, metrics)) },
  { id: "rate", title: () => "Learning rate", values: (series) => series.learning_rate },
  { id: "grad", title: () => "Gradient norm", smooth: true, values: (series) => mean(series.grad_norm, span(series)) },
  { id: "speed", title: () => `${capital(unit())} a second`, values: (series) => speedCurve(series) },
  { id: "stale", title: () => "Staleness", values: (series) => mean(series.staleness, span(series)) },
];

/** Buckets to either side that a smooth curve is a mean of. */
const span = (series) => (view.smooth ? Math.ceil(series.step.length / 80) : 0);

/** Means of sums over neighbours: running totals make it one pass. */
function around(sums, reach) {
  const total = [0];
  for (const value of sums) total.push(total.at(-1) + (value ?? 0));
  return sums.map((_, at) => total[Math.min(sums.length, at + reach + 1)] - total[Math.max(0, at - reach)]);
}

function mean(values, reach) {
  if (!reach) return values;
  const known = around(values.map((value) => (value === null ? 0 : 1)), reach);
  return around(values, reach).map((sum, at) => (known[at] ? sum / known[at] : null));
}

function metricTitle() {
  const { name, unit } = chosen();
  return unit ? `${capital(name)} (${unit})` : capital(name);
}

/** Nothing where the run does not have the metric. */
function metricCurve(series, metric, reach = span(series)) {
  if (!metric) return [];
  const none = series.count.map(() => 0);
  const of = isOfLoss(metric) ? series.loss : (series.sums[metric.value.sum] ?? none);
  const [sums, items] = [around(of, reach), around(series.count, reach)];
  return sums.map((sum, at) => shown(items[at] ? made(metric, sum / items[at]) : null));
}

/** The lowest and the highest step of each bucket: they are known of what the run goes by. */
function extremes(series) {
  const [first, metric] = [measures(state.head?.metrics ?? [])[0], chosen()];
  if (first.name !== metric.name && !(isOfLoss(first) && isOfLoss(metric))) return [];
  // Of a perplexity its logarithm, which is the loss.
  const value = (linear) => (metric.value === "perplexity" && linear !== null ? Math.exp(linear) : linear);
  return [series.lowest, series.highest].map((values) => values.map((linear) => shown(value(linear))));
}

/** A value as it is drawn; what a logarithmic scale has no place for is left out. */
function shown(value) {
  return value === null || !Number.isFinite(value) || (view.log && value <= 0) ? null : value;
}

function speedCurve(series) {
  const items = series.items;
  const reach = Math.max(2, Math.ceil(series.step.length / 60));
  return around(items, reach).map((sum, at) => {
    const [from, to] = [at - reach - 1, Math.min(series.secs.length - 1, at + reach)];
    // A life of the run may begin where the time of the one before ended.
    const secs = series.secs[to] - (from < 0 ? 0 : series.secs[from]);
    return secs > 0 ? sum / secs : null;
  });
}

const alongAxis = (series) => series[view.axis];
const doneX = (row) => ({ secs: row.secs, epochs: row.epoch, step: row.step })[view.axis];

class Chart {
  constructor(kind) {
    this.kind = kind;
    this.title = el("h3");
    this.keys = el("ul", "keys");
    this.plot = el("div", "plot");
    this.node = el("div", `chart${kind.large ? " large" : ""}`, el("div", "chart-head", this.title, this.keys), this.plot);
    this.node.id = `chart-${kind.id}`;
    this.made = "";
  }

  /** Lines of the chart: { name, colour, x, y, … }, this run's last, so that they lie on top. */
  lines() {
    const all = [];
    const large = this.kind.large;
    for (const [name, run] of overlays) {
      const y = run.series.step.length ? this.kind.values(run.series, run.metrics) : [];
      if (y.length) all.push({ name, colour: run.colour, dash: [6, 4], x: alongAxis(run.series), y });
    }
    const own = state.series;
    // What happened to one step is not lost in a mean.
    if (large && view.smooth) {
      for (const y of extremes(own)) all.push({ colour: css("--accent"), faint: true, x: alongAxis(own), y });
    }
    const label = large ? "train" : "";
    all.push({ name: label, colour: css("--accent"), x: alongAxis(own), y: this.kind.values(own, state.head.metrics) });
    const valid = large ? state.done.filter((row) => row.validation?.count) : [];
    if (valid.length) {
      all.push({ name: "valid", colour: css("--valid"), points: true, x: valid.map(doneX), y: valid.map((row) => shown(measured(chosen(), row.validation))) });
    }
    return all;
  }

  render() {
    say(this.title, this.kind.title());
    const lines = this.lines();
    const width = Math.floor(this.plot.clientWidth);
    if (!width) return;
    const shape = JSON.stringify([lines.map((line) => [line.name, line.colour]), view, matchMedia("(prefers-color-scheme: dark)").matches, unit(), chosen().name]);
    const data = lines.length > 1
      ? uPlot.join(lines.map((line) => [line.x, line.y]).map(ascending))
      : ascending([lines[0].x, lines[0].y]);
    this.data = data;
    if (shape !== this.made) {
      this.chart?.destroy();
      this.chart = new uPlot(this.options(lines, width), data, this.plot);
      [this.made, this.zoomed] = [shape, false];
      this.labels(lines);
    } else {
      this.chart.setData(data, !this.zoomed);
    }
    this.values(this.chart.cursor.idx ?? null);
    const own = lines.findLast((line) => !line.points && !line.dash && !line.faint);
    const last = own.y.findLast((one) => one !== null && one !== undefined);
    this.plot.setAttribute("role", "img");
    this.plot.setAttribute("aria-label", `${this.kind.title()}: ${own.x.length} points, ${figure(own.y[0])} at first, ${figure(last)} now`);
  }

  options(lines, width) {
    const kind = this.kind;
    const line = (line) => ({
      stroke: line.colour,
      width: line.faint ? 1 : 2,
      alpha: line.faint ? 0.28 : 1,
      dash: line.dash,
      points: line.points ? { show: true, size: 9, fill: line.colour, stroke: css("--panel"), width: 1.5 } : { show: false },
      paths: line.points ? () => null : undefined,
    });
    const axis = { stroke: css("--quiet"), grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const logarithmic = kind.logarithmic?.() ?? false;
    const horizontal = view.axis === "secs" ? (values) => values.map(tick) : (values) => values.map(short);
    return {
      width,
      height: kind.large ? (width < 500 ? 230 : 300) : 130,
      legend: { show: false },
      padding: [8, 10, 0, 0],
      cursor: { sync: { key: "curves" }, drag: { x: true, y: false }, points: { size: 6 } },
      series: [{}, ...lines.map(line)],
      scales: {
        x: { time: false },
        y: logarithmic ? { distr: 3, range: (_, low, high) => logRange(low, high) } : { range: (_, low, high) => linearRange(low, high, kind.large) },
      },
      axes: [
        { ...axis, space: 70, values: (_, values) => horizontal(values), incrs: view.axis === "secs" ? TIMES : undefined, size: 28 },
        { ...axis, size: kind.large ? 52 : 46, space: kind.large ? 36 : 24, values: (_, values) => values.map((value) => (value === null ? "" : short(value))),
          ...(logarithmic ? { splits: (_, __, low, high) => logSplits(low, high), filter: (_, splits) => splits } : {}) },
      ],
      hooks: {
        setCursor: [(chart) => this.values(chart.cursor.idx)],
        setSelect: [() => { this.zoomed = true; }],
      },
    };
  }

  /** Names of the lines, beside which their values stand. */
  labels(lines) {
    this.figures = [];
    const items = lines.flatMap((line, at) => {
      if (line.faint || (!this.kind.large && line.dash)) return [];
      const mark = el("i", line.points ? "dot" : "");
      mark.style.background = line.colour;
      const value = el("b");
      this.figures.push([value, at + 1]);
      const named = line.name ? [mark, line.name, value] : [value];
      return [el("li", "", ...named)];
    });
    this.keys.replaceChildren(...items);
  }

  /** The values below the cursor, or the last ones. */
  values(at) {
    for (const [node, column] of this.figures ?? []) {
      const values = this.data[column];
      let value = at === null || at === undefined ? undefined : values[at];
      if (at !== null && at !== undefined) {
        // Runs have points of their own: the one before is the one that is meant.
        for (let back = at; value === undefined && back > 0 && back > at - 64; back--) value = values[back - 1];
      } else {
        value = values.findLast((one) => one !== undefined && one !== null);
      }
      say(node, figure(value));
    }
  }
}

/** Steps that were done again stand at the same place: only the last of them is drawn. */
function ascending([x, y]) {
  let sorted = true;
  for (let at = 1; at < x.length && sorted; at++) sorted = x[at] > x[at - 1];
  if (sorted) return [x, y];
  const by = new Map();
  x.forEach((place, at) => by.set(place, y[at]));
  const places = [...by.keys()].sort((a, b) => a - b);
  return [places, places.map((place) => by.get(place))];
}

const TIMES = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800];

function linearRange(low, high, tight) {
  if (low === null || low === undefined) return [0, 1];
  const from = tight ? low : Math.min(0, low);
  if (from === high) return [from, from + (Math.abs(from) || 1)];
  const room = 0.06 * (high - from);
  return [tight || low < 0 ? from - room : from, high + room];
}

function logRange(low, high) {
  if (!(low > 0)) return [1, 10];
  const room = (high / low) ** 0.06;
  return high / low < 1.02 ? [low / 1.1, high * 1.1] : [low / room, high * room];
}

/** 1, 2, 5, 10, … as many as there is room for. */
function logSplits(low, high) {
  const decades = Math.log10(high / low);
  if (decades < 0.4) {
    const step = 10 ** Math.floor(Math.log10((high - low) / 2));
    const by = [1, 2, 5, 10].map((times) => times * step).find((by) => (high - low) / by <= 6) ?? step;
    const splits = [];
    for (let at = Math.ceil(low / by) * by; at <= high; at += by) splits.push(at);
    return splits;
  }
  const within = decades > 5 ? [1] : decades > 2 ? [1, 3] : decades > 1 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7];
  const splits = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const times of within) {
      const at = times * 10 ** power;
      if (at >= low && at <= high) splits.push(at);
    }
  }
  return splits;
}

const charts = CHARTS.map((kind) => new Chart(kind));

function renderCurves() {
  for (const chart of charts) chart.render();
}

function startCurves() {
  $("charts").append(...charts.map((chart) => chart.node));
  // Whoever has drawn a frame sees the whole again by a double click.
  for (const chart of charts) {
    chart.node.addEventListener("dblclick", () => { for (const one of charts) one.zoomed = false; });
    new ResizeObserver(() => {
      const width = Math.floor(chart.plot.clientWidth);
      if (chart.chart && width && width !== chart.chart.width) chart.chart.setSize({ width, height: chart.chart.height });
      else if (!chart.chart) schedule("series");
    }).observe(chart.plot);
  }
}

