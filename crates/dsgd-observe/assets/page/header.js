// The head of the page: where the run stands.

/** After so many seconds without a word, a run that has not ended may be dead. */
const SILENT_SECS = 60;

function status(head) {
  if (!head) return ["", "Connecting"];
  if (state.link !== "live" && state.link !== "over" && state.link !== "lost") return ["bad", state.link];
  if (head.error) return ["bad", `Cannot be read: ${head.error}`];
  if (head.outcome) return [head.outcome === "finished" ? "good" : "warn", capital(head.outcome)];
  if (state.link === "lost") return ["bad", "Connection lost, trying again"];
  if (head.read < head.size) return ["", `Reading, ${percent(head.read / head.size)}`];
  if (!head.lives) return ["", "Waiting for the run to start"];
  if (head.idle_secs > SILENT_SECS) return ["warn", `Silent for ${duration(head.idle_secs)}`];
  return ["good", "Running"];
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function renderHeader() {
  const head = state.head;
  const [kind, words] = status(head);
  classes($("status"), `pill ${kind}`);
  say($("status").lastElementChild, words);
  // Told to who listens when it becomes another, not with every second of it.
  if (renderHeader.kind !== kind) say($("said"), `${kind === "bad" ? "Attention: " : ""}${words}`);
  renderHeader.kind = kind;
  if (!head) return;
  const name = asked.get("run") ?? listing.main ?? head.task;
  say($("run"), name || "run");
  document.title = `${name || "run"} · ${words} · dsgd`;
  const about = [head.task, ...head.about, head.parameters ? plural(head.parameters, "parameter") : "", head.mode, head.unix_secs ? `started ${moment(head.unix_secs)}` : ""];
  say($("about"), about.filter(Boolean).join(" · "));

  const share = head.epochs && head.batches ? (head.epoch - 1 + head.counted / head.batches) / head.epochs : 0;
  setValue($("epoch"), head.epoch ? `Epoch ${head.epoch}` : "–", head.epochs ? `of ${head.epochs}` : "");
  say($("batch"), head.batches ? `batch ${count(head.counted)} of ${count(head.batches)}` : "\u00a0");
  const bar = $("progress");
  bar.firstElementChild.style.width = `${(100 * Math.min(share, 1)).toFixed(2)}%`;
  bar.setAttribute("aria-valuenow", (100 * Math.min(share, 1)).toFixed(0));

  const metric = chosen();
  const valid = state.done.map((row) => measured(metric, row.validation)).filter((value) => value !== null);
  say($("metric-name"), `Train ${metric.name}`);
  setValue($("train"), figure(measured(metric, head.train)), metric.unit);
  const told = (value) => withUnit(metric, figure(value));
  say($("valid"), valid.length ? `valid ${told(valid.at(-1))}, best ${told(best(metric, valid))}` : "not validated yet");

  const working = [...state.workers.values()].filter((row) => row.state === "working");
  const speed = head.outcome ? wholeSpeed(head) : working.reduce((sum, row) => sum + row.rate, 0);
  setValue($("speed"), short(speed), `${unit()}/s`);
  say($("steps"), `${plural(head.steps, "step")}${head.outcome ? ", on average" : ""}`);
  setValue($("live"), head.outcome ? String(state.workers.size) : String(head.live), head.outcome ? "" : `of ${head.workers_wanted}`);
  const losses = head.counts.lost ? `${count(head.counts.lost)} lost so far, ` : "";
  say($("staleness"), `${losses}staleness ${figure(head.staleness)}`);

  const ended = Boolean(head.outcome);
  // The first batches of an epoch say nothing yet: then it goes by the epochs before.
  const left = head.remaining_secs ?? (share > 0 ? (head.secs * (1 - share)) / share : null);
  say($("left-name"), ended ? "Trained for" : "Left of the run");
  setValue($("left"), duration(ended ? head.secs : left), "");
  say($("trained"), ended ? plural(state.done.length, "epoch") : `${duration(head.secs)} so far`);
  renderRemarks(head);
}

/** What the task counts a second, while steps were made. */
function wholeSpeed(head) {
  const all = state.series.items.reduce((sum, one) => sum + one, 0);
  return head.stepping_secs > 0 ? all / head.stepping_secs : 0;
}

function setValue(node, text, small) {
  const all = small ? `${text} ${small}` : text;
  if (node.textContent === all) return;
  node.replaceChildren(text, ...(small ? [" ", el("small", "", small)] : []));
}

/** What deserves attention now, and why. */
function renderRemarks(head) {
  const remarks = [];
  const lost = [...state.workers.values()].filter((row) => row.state === "lost");
  if (lost.length && !head.outcome) {
    const [first, ...others] = lost.sort((a, b) => b.since_secs - a.since_secs);
    const more = others.length ? ` and ${others.length} more` : "";
    remarks.push(["bad", `${plural(lost.length, "worker")} lost`, `: ${first.name}${more}: ${first.reason ?? ""}`]);
  }
  if (head.slowest && !head.outcome) remarks.push(["", "Slow", `: ${head.slowest}`]);
  if (head.broken) remarks.push(["", `${plural(head.broken, "line")} of events.jsonl`, " could not be read and are left out"]);
  const text = JSON.stringify(remarks);
  if (renderRemarks.shown === text) return;
  renderRemarks.shown = text;
  $("remarks").replaceChildren(...remarks.map(([kind, strong, rest]) => el("p", `remark ${kind}`, el("b", "", strong), rest)));
}

