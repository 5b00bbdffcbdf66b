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

onChoice("axis", (input) => { view.axis = input.value; for (const chart of charts) chart.zoomed = false; });
onChoice("measure", (input) => { view.measure = input.value; chooseScale(); });
onChoice("log", (input) => { [view.log, scaled] = [input.checked, true]; });
onChoice("smooth", (input) => { view.smooth = input.checked; });
$("which").addEventListener("change", () => schedule("happenings"));
$("find").addEventListener("input", () => schedule("workers"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const overlay of overlays.values()) overlay.colour = css(overlay.name);
  schedule(...Object.keys(PARTS));
});

/** Whether the reader has chosen a scale: then it stays. */
let scaled = false;

function chooseScale() {
  if (scaled) return;
  view.log = isOfLoss(chosen());
  $("log").checked = view.log;
}

/** What can be shown, once the run has said what it is judged by. */
function offerMeasures() {
  const names = measures(state.head.metrics).map((metric) => metric.name);
  if (!state.head.lives || offerMeasures.offered === names.join()) return;
  offerMeasures.offered = names.join();
  if (!names.includes(view.measure)) view.measure = null;
  $("measure").hidden = names.length < 2;
  $("measure").replaceChildren($("measure").firstElementChild, ...names.map((name) => {
    const input = el("input");
    [input.type, input.name, input.value, input.checked] = ["radio", "measure", name, name === chosen().name];
    return el("label", "", input, el("span", "", capital(name)));
  }));
  chooseScale();
}

startCurves();
startTimeline();
listen(() => {
  if (state.head) offerMeasures();
  onNews();
});
lookAtRuns();
