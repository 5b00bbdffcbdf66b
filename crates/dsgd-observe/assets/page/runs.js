// The other runs of the folder, and their curves over this run's.

/** Pause between two looks at the list, and at the curves of a run that is not over. */
const LOOK_AGAIN_MS = 10_000;

/** Sums that a batch may have besides its loss. */
const SUMS = 8;

/** Colours for other runs; there are no more runs over each other than colours. */
const OVER = ["--over1", "--over2", "--over3", "--over4", "--over5"];

const listing = { main: null, runs: [] };

async function ask(path, parameters) {
  const answer = await fetch(address(path, parameters), { signal: AbortSignal.timeout(20_000) });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

async function lookAtRuns() {
  try {
    const { main, runs } = await ask("api/runs");
    [listing.main, listing.runs] = [main, runs];
    await Promise.all([...overlays.keys()].map(fetchOverlay));
    state.news.runs = true;
    schedule("runs", "series", "head");
  } catch {
    // The connection's state is told by the one that listens.
  }
  if (state.link !== "over") setTimeout(lookAtRuns, LOOK_AGAIN_MS);
}

/** Curves of another run, from its board. */
async function fetchOverlay(name) {
  const overlay = overlays.get(name);
  if (!overlay || overlay.over) return;
  const board = await ask("api/board", { run: name });
  // A long one takes the server some seconds to read.
  if (board.read < board.size || !board.size) setTimeout(() => fetchOverlay(name).then(() => schedule("series"), () => {}), 1000);
  const series = emptySeries();
  for (const bucket of board.series.buckets) {
    for (const column of ["step", "secs", "epochs", "grad_norm", "learning_rate", "staleness", "lowest", "highest"]) series[column].push(bucket[column]);
    series.loss.push(bucket.stats.loss);
    series.count.push(bucket.stats.count);
    for (let at = 0; at < SUMS; at++) (series.sums[at] ??= []).push(bucket.stats.sums?.[at] ?? 0);
  }
  series.items = board.items;
  overlay.metrics = board.metrics;
  [overlay.series, overlay.over] = [series, Boolean(board.outcome) && board.read >= board.size];
}

async function compareWith(name, box) {
  if (!box.checked) {
    overlays.delete(name);
  } else {
    const taken = new Set([...overlays.values()].map((overlay) => overlay.name));
    const free = OVER.find((colour) => !taken.has(colour));
    if (!free) {
      box.checked = false;
      return say($("runs-hint"), `No more than ${OVER.length} runs are laid over each other: untick one.`);
    }
    overlays.set(name, { name: free, colour: css(free), series: emptySeries(), metrics: [], over: false });
    try {
      await fetchOverlay(name);
    } catch (error) {
      overlays.delete(name);
      box.checked = false;
      return say($("runs-hint"), error.message);
    }
  }
  say($("runs-hint"), "Tick a run to lay its curves over this one's.");
  schedule("runs", "series");
}

/** The chosen metric of a run that may have others. */
function shownOf(run, stats) {
  const metric = measure(chosen().name, run.metrics);
  const value = measured(metric, stats);
  return value === null ? "–" : withUnit(metric, figure(value));
}

function stateOf(run) {
  if (run.outcome) return run.outcome;
  return run.idle_secs > SILENT_SECS ? `silent for ${duration(run.idle_secs)}` : "running";
}

function renderRuns() {
  const shown = asked.get("run") ?? listing.main;
  const body = $("runs").tBodies[0];
  // Whoever is at a box with the keyboard stays there.
  const focused = document.activeElement?.dataset?.run;
  body.replaceChildren(...listing.runs.map((run) => {
    const isThis = run.name === shown;
    const overlay = overlays.get(run.name);
    const box = el("input");
    box.type = "checkbox";
    box.dataset.run = run.name;
    box.checked = isThis || Boolean(overlay);
    box.disabled = isThis;
    box.setAttribute("aria-label", `Lay the curves of ${run.name} over this run's`);
    box.addEventListener("change", () => compareWith(run.name, box));
    const swatch = el("i", "swatch");
    swatch.style.background = isThis ? css("--accent") : overlay?.colour ?? "transparent";
    const link = el("a", "", run.name);
    link.href = address("", { run: run.name });
    const name = el("td", "name", swatch, isThis ? el("b", "", run.name) : link);
    const cell = (text, more = "") => el("td", `n ${more}`, text);
    return el("tr", isThis ? "this" : "", el("td", "", box), name, el("td", "", stateOf(run)),
      cell(run.epochs ? `${run.epoch} / ${run.epochs}` : "–"), cell(count(run.steps)),
      cell(shownOf(run, run.train)), cell(shownOf(run, run.validation)), cell(moment(run.unix_secs)));
  }));
  if (focused) body.querySelector(`[data-run="${CSS.escape(focused)}"]`)?.focus();
}

