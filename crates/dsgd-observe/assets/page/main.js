// What is drawn when: once a picture of the screen, and only what has changed.

const PARTS = { head: renderHeader, series: renderCurves, workers: renderWorkers, moments: renderTimeline, happenings: renderEvents, runs: renderRuns };
const due = new Set();

function schedule(...parts) {
  if (!due.size) requestAnimationFrame(drawDue);
  for (const part of parts) due.add(part);
}

function drawDue() {
  const parts = [...due];
  due.clear();
  // All else is drawn from what the first frame brings.
  if (!state.head) return renderHeader();
  for (const part of parts) PARTS[part]();
}

function onNews() {
  const parts = ["head", "workers", ...Object.keys(state.news).filter((part) => state.news[part])];
  for (const part of Object.keys(state.news)) state.news[part] = false;
  schedule(...parts);
}

function onChoice(id, change) {
  $(id).addEventListener("change", (event) => {
    change(event.target);
    schedule("series", "head", "runs");
  });
}

let chosen = false;
onChoice("axis", (input) => { view.axis = input.value; for (const chart of charts) chart.zoomed = false; });
onChoice("measure", (input) => { view.measure = input.value; chosen = true; });
onChoice("log", (input) => { view.log = input.checked; });
onChoice("smooth", (input) => { view.smooth = input.checked; });
$("which").addEventListener("change", () => schedule("happenings"));
$("find").addEventListener("input", () => schedule("workers"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const overlay of overlays.values()) overlay.colour = css(overlay.name);
  schedule(...Object.keys(PARTS));
});

/** A task without tokens has losses that are no entropies: perplexity would mean nothing. */
function chooseMeasure() {
  if (chosen || !state.head || !state.head.steps) return;
  chosen = true;
  if (!state.head.tokens) {
    view.measure = "loss";
    $("measure").querySelector("[value=loss]").checked = true;
  }
}

startCurves();
startTimeline();
listen(() => {
  if (state.head) chooseMeasure();
  onNews();
});
lookAtRuns();
