// The table of workers: one row each, of which only what changes is touched.

const PHASES = [["compute", "computing"], ["pull", "pulling"], ["push", "pushing"], ["wait", "waiting"]];

/** A worker that gave nothing for this many times its usual time is slow. */
const SLOW = 8;

const COLUMNS = [
  { name: "Worker", key: (row) => row.name, classes: "name", fill: (cell, row) => say(cell, row.name) },
  { name: "State", key: (row) => [row.shown, row.name], classes: "state", fill: fillState },
  { name: () => `${capital(unit())}/s`, key: (row) => row.rate, classes: "n", fill: fillSpeed },
  { name: "Time", key: (row) => shares(row)[0], classes: "time", fill: fillShares },
  { name: "Staleness", key: (row) => row.staleness, classes: "n", fill: (cell, row) => say(cell, row.batches ? row.staleness.toFixed(1) : "–") },
  { name: "Batches", key: (row) => row.batches, classes: "n", fill: (cell, row) => say(cell, count(row.batches)) },
  { name: "Lost", key: (row) => row.losses, classes: "n", fill: (cell, row) => say(cell, count(row.losses)) },
  { name: "Refused", key: (row) => row.refused, classes: "n", fill: (cell, row) => say(cell, count(row.refused)) },
  { name: "Data", key: (row) => row.bytes, classes: "n", fill: (cell, row) => say(cell, bytes(row.bytes)) },
];

const table = { rows: new Map(), sort: 0, down: false, order: "" };

/** Computing, pulling, pushing and waiting, as shares of the time. */
function shares(row) {
  const secs = PHASES.map(([phase]) => row[`${phase}_secs`]);
  const all = secs.reduce((sum, one) => sum + one, 0);
  return all > 0 ? secs.map((one) => one / all) : [0, 0, 0, 0];
}

/** What a worker is at: the server's word, and whether it takes long. */
function shownState(row) {
  if (row.state !== "working" || state.head.outcome) return row.state;
  const usual = PHASES.reduce((sum, [phase]) => sum + row[`${phase}_secs`], 0) / Math.max(1, row.batches);
  const since = state.head.secs - Math.max(row.last_secs ?? 0, row.since_secs);
  return row.batches && since > Math.max(10, SLOW * usual) ? "slow" : "working";
}

function fillState(cell, row) {
  const why = {
    lost: () => `${row.reason ?? ""}${row.reason ? ", " : ""}at ${clock(row.since_secs)}`,
    slow: () => `no gradient for ${duration(state.head.secs - (row.last_secs ?? row.since_secs))}`,
    working: () => (row.losses ? `back since ${clock(row.since_secs)}; was lost: ${row.reason ?? ""}` : ""),
    dismissed: () => (row.losses ? `was lost: ${row.reason ?? ""}` : ""),
  }[row.shown]();
  classes(cell, `state ${row.shown}`);
  if (!cell.firstChild) cell.append(el("span", "word"), el("span", "why"));
  say(cell.firstChild, { lost: "lost", slow: "slow", working: "working", dismissed: "done" }[row.shown]);
  say(cell.lastChild, why);
  cell.lastChild.hidden = !why;
}

function fillSpeed(cell, row) {
  say(cell, row.state === "working" ? short(row.rate) : "–");
}

function fillShares(cell, row) {
  if (!cell.firstChild) {
    const bar = el("div", "shares", ...PHASES.map(([phase]) => el("i", phase)));
    bar.setAttribute("role", "img");
    cell.append(bar);
  }
  const bar = cell.firstChild;
  const parts = shares(row);
  const words = parts.every((part) => !part) ? "no time measured yet"
    : PHASES.map(([, word], at) => `${word} ${percent(parts[at])}`).filter((_, at) => parts[at] > 0.0005).join(", ");
  if (bar.title === words) return;
  bar.title = words;
  bar.setAttribute("aria-label", words);
  parts.forEach((part, at) => { bar.children[at].style.flex = `${part} 0 0`; bar.children[at].hidden = part < 0.0005; });
}

function renderWorkers() {
  const body = $("workers").tBodies[0];
  if (state.changed.delete("all")) {
    table.rows.clear();
    body.replaceChildren();
    table.order = "";
  }
  for (const row of state.workers.values()) {
    const shown = shownState(row);
    if (!state.changed.has(row.name) && row.shown === shown && shown !== "slow") continue;
    row.shown = shown;
    drawRow(row);
  }
  state.changed.clear();
  renderHeads();
  const wanted = $("find").value.trim().toLowerCase();
  const found = (row) => !wanted || `${row.name} ${row.shown} ${row.reason ?? ""}`.toLowerCase().includes(wanted);
  const all = [...state.workers.values()].filter(found).sort(compare);
  const order = all.map((row) => row.name).join("\n");
  if (order !== table.order) {
    table.order = order;
    body.replaceChildren(...all.map((row) => table.rows.get(row.name)));
  }
  $("workers").hidden = !state.workers.size;
  $("find").parentElement.hidden = state.workers.size <= 12;
  say($("no-workers"), state.workers.size ? "No worker is called that." : "No worker has joined yet.");
  $("no-workers").hidden = all.length > 0;
}

function drawRow(row) {
  let line = table.rows.get(row.name);
  if (!line) {
    line = el("tr", "", ...COLUMNS.map((column) => el("td", column.classes)));
    // Said aloud, because a narrow screen has it laid out as something else.
    line.setAttribute("role", "row");
    for (const cell of line.cells) cell.setAttribute("role", "cell");
    table.rows.set(row.name, line);
  }
  classes(line, row.shown);
  COLUMNS.forEach((column, at) => column.fill(line.cells[at], row));
}

/** Who is lost comes first, whatever the order. */
function compare(a, b) {
  if ((a.shown === "lost") !== (b.shown === "lost")) return a.shown === "lost" ? -1 : 1;
  const [x, y] = [COLUMNS[table.sort].key(a), COLUMNS[table.sort].key(b)];
  const order = typeof x === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
  return (table.down ? -order : order) || a.name.localeCompare(b.name, "en", { numeric: true });
}

function renderHeads() {
  const heads = $("workers").tHead.rows[0];
  if (!heads.cells.length) {
    COLUMNS.forEach((column, at) => {
      const button = el("button");
      button.type = "button";
      button.addEventListener("click", () => {
        table.down = table.sort === at ? !table.down : column.classes.startsWith("n") && at > 0 && column.classes !== "name";
        table.sort = at;
        schedule("workers");
      });
      const head = el("th", column.classes.replace("name", ""), button);
      head.scope = "col";
      head.setAttribute("role", "columnheader");
      heads.append(head);
    });
  }
  COLUMNS.forEach((column, at) => {
    const head = heads.cells[at];
    say(head.firstChild, typeof column.name === "function" ? column.name() : column.name);
    if (table.sort === at) head.setAttribute("aria-sort", table.down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
}

