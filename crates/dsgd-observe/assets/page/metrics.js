// What a run is judged by: the task's metrics, and the loss, which every task has.

const LOSS = { name: "loss", unit: "", better: "lower", value: "loss" };

/** What can be shown of a run with these metrics; the one that it goes by comes first. */
const measures = (metrics) => (metrics.some((metric) => metric.name === LOSS.name) ? metrics : [...metrics, LOSS]);

/** The metric of that name: of this run, or of another one where it has the same. */
function measure(name = view.measure, metrics = state.head?.metrics ?? []) {
  return measures(metrics).find((metric) => metric.name === name);
}

/** What is chosen; until then what the run goes by. */
const chosen = () => measure() ?? measures(state.head?.metrics ?? [])[0];

/** Whether it is made of the loss: then a logarithmic scale says most. */
const isOfLoss = (metric) => metric.value === "loss" || metric.value === "perplexity";

/** The metric's value at the mean of its sum. */
function made(metric, mean) {
  if (mean === null) return null;
  return metric.value === "perplexity" ? Math.exp(mean) : metric.unit === "%" ? 100 * mean : mean;
}

/** The metric's value over a batch, an epoch, …; null where it is not known. */
function measured(metric, stats) {
  if (!metric || !stats?.count) return null;
  const at = metric.value.sum;
  // Sums that are 0 at the end are not sent.
  const sum = isOfLoss(metric) ? stats.loss : stats.sums?.length > at ? stats.sums[at] : 0;
  return sum === null ? null : made(metric, sum / stats.count);
}

const best = (metric, values) => (metric.better === "lower" ? Math.min(...values) : Math.max(...values));

const withUnit = (metric, text) => (metric.unit ? `${text} ${metric.unit}` : text);
