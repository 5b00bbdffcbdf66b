// What is known of the run, and how it comes here.
//
// The server sends frames: the first one holds everything, those after it what is new since. A
// frame is taken in here and nowhere else; what is drawn, is drawn from `state`.

const asked = new URLSearchParams(location.search);

/** The address of something that the server has. */
function address(path, parameters = {}) {
  const all = new URLSearchParams(parameters);
  for (const name of ["token", "run"]) {
    if (asked.get(name) && !all.has(name)) all.set(name, asked.get(name));
  }
  const text = all.toString();
  return text ? `${path}?${text}` : path;
}

const MOST_MOMENTS = 400;
const MOST_HAPPENINGS = 400;

const emptySeries = () => ({
  step: [], secs: [], epochs: [], loss: [], count: [], sums: [], items: [],
  lowest: [], highest: [],
  grad_norm: [], learning_rate: [], staleness: [],
});

const state = {
  head: null,
  series: emptySeries(),
  done: [],
  workers: new Map(),
  happenings: [],
  moments: [],
  // Rows and lists that were changed since they were drawn.
  changed: new Set(),
  news: { moments: true, happenings: true, series: true, runs: true },
  // How the connection is, and when something came last.
  link: "connecting",
  heard: performance.now(),
};

/** Rows of a table that came by columns. */
function* rows(columns) {
  const names = Object.keys(columns);
  for (let at = 0; at < columns[names[0]].length; at++) {
    const row = {};
    for (const name of names) row[name] = columns[name][at];
    yield row;
  }
}

function take(frame) {
  if (frame.whole) {
    state.series = emptySeries();
    [state.done, state.happenings, state.moments] = [[], [], []];
    state.workers = new Map();
    state.changed.add("all");
  }
  state.head = frame.head;
  append(state.series, frame.series);
  if (frame.series.step.length) state.news.series = true;
  state.done.splice(frame.done.from, Infinity, ...frame.done.rows);
  for (const row of rows(frame.workers)) {
    state.workers.set(row.name, row);
    state.changed.add(row.name);
  }
  for (const happening of frame.happenings) state.happenings.push(happening);
  for (const moment of rows(frame.moments)) state.moments.push(moment);
  if (frame.happenings.length || frame.whole) state.news.happenings = true;
  if (frame.moments.step.length || frame.whole) state.news.moments = true;
  state.happenings.splice(0, state.happenings.length - MOST_HAPPENINGS);
  state.moments.splice(0, state.moments.length - MOST_MOMENTS);
}

/** Columns from a place on: what was there is replaced. */
function append(series, columns) {
  const { from, sums } = columns;
  // A sum that was 0 in every bucket before had no column.
  sums.forEach((_, at) => (series.sums[at] ??= new Array(from).fill(0)));
  series.sums.forEach((sum, at) => sum.splice(from, Infinity, ...(sums[at] ?? [])));
  for (const name of Object.keys(series).filter((name) => name !== "sums")) {
    series[name].length = columns.from;
    for (const value of columns[name]) series[name].push(value);
  }
}

/** Listens to the server, again and again where it is not there. */
function listen(onNews) {
  const source = new EventSource(address("api/events"));
  source.onmessage = (message) => {
    take(JSON.parse(message.data));
    [state.link, state.heard] = ["live", performance.now()];
    // A run that is over has nothing more to say, and its server goes.
    if (state.head.outcome && state.head.read >= state.head.size) {
      source.close();
      state.link = "over";
    }
    onNews();
  };
  source.onerror = async () => {
    // A browser tries again by itself, unless the server has turned it down.
    if (state.link !== "over") state.link = "lost";
    if (source.readyState === EventSource.CLOSED && state.link !== "over") {
      state.link = await refusal();
      setTimeout(() => listen(onNews), 5000);
    }
    onNews();
  };
}

/** Why the server has turned us down, in its own words. */
async function refusal() {
  try {
    const answer = await fetch(address("api/events"), { signal: AbortSignal.timeout(3000) });
    if (!answer.ok) return (await answer.text()).trim();
    await answer.body.cancel();
  } catch {
    // It is not there at all.
  }
  return "lost";
}

/** What the run's speeds count, such as tokens. */
const unit = () => state.head?.unit ?? "examples";

