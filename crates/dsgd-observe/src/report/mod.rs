//! What became of a run, on one page: what was trained on what, how well, by whom, and what went wrong.
//!
//! It is put together from the run's board once and written as Markdown, as HTML and, much shorter,
//! for the terminal. Estimates say how they were made.

mod document;
mod faults;

mod html;
mod markdown;

pub use document::{Block, Table};
pub use faults::faults;

use crate::figures::{bytes, count, date, percent, rate, secs, value, whole};
use faults::{fault_blocks, fault_words, has_diverged};

use crate::board::{Board, EpochRow};
use crate::past::Past;
use crate::plot::{Format, Source, What, capitalized, draw};
use dsgd_core::metric::Metric;
use dsgd_core::task::Stats;

/// Epochs that are shown: the first, the last, and some between.
const MOST_EPOCHS: usize = 16;

/// What is to be reported.
pub struct Facts<'a> {
    /// The run.
    pub past: &'a Past,
    /// Options that are not at their defaults, as `--option` and value.
    pub options: Vec<(String, String)>,
    /// What can be done with the run, as command lines.
    pub commands: Vec<String>,
}

impl Facts<'_> {
    /// The report as Markdown.
    pub fn markdown(&self) -> String {
        markdown::markdown(&self.title(), &self.blocks())
    }

    /// The report as a page.
    pub fn html(&self) -> String {
        html::html(&self.title(), &self.blocks())
    }

    /// Its most important lines.
    pub fn short(&self) -> Vec<String> {
        let board = &self.past.board;
        let mut lines = Vec::new();
        if let Some(words) = results(board) {
            lines.push(words);
        }
        lines.push(format!(
            "{} in {}{}",
            count(board.steps, "step"),
            secs(board.secs),
            speed(board).map_or(String::new(), |speed| format!(", {speed} while training"))
        ));
        lines.push(match fault_words(board) {
            none if none.is_empty() => "Faults: none".to_owned(),
            words => format!("Faults: {}", words.join(", ")),
        });
        lines
    }

    fn title(&self) -> String {
        format!("Run {}: {}", self.past.name(), self.past.state)
    }

    fn blocks(&self) -> Vec<Block> {
        let board = &self.past.board;
        let mut blocks = vec![Block::Table(Table::pairs(self.what()))];
        blocks.extend(about(board));
        blocks.push(Block::Heading("Results".to_owned()));
        match results(board) {
            Some(words) => blocks.push(Block::Text(format!("{words}."))),
            None => blocks.push(Block::Text("No epoch is done.".to_owned())),
        }
        blocks.extend(self.pictures(What::Time));
        if !board.done.is_empty() {
            blocks.push(Block::Table(epochs(board)));
        }
        blocks.push(Block::Heading("Who did what".to_owned()));
        blocks.push(Block::Table(hosts(board)));
        blocks.extend(work(board).into_iter().map(Block::Text));
        blocks.extend(self.pictures(What::Workers));
        blocks.push(Block::Heading("Faults and what they cost".to_owned()));
        blocks.extend(fault_blocks(self.past));
        blocks.push(Block::Heading("Options".to_owned()));
        if self.options.is_empty() {
            let words = "All options are at their defaults.";
            blocks.push(Block::Text(words.to_owned()));
        } else {
            blocks.push(Block::Text(
                "Those that are not at their defaults; config.toml has all.".to_owned(),
            ));
            blocks.push(Block::Table(Table::pairs(self.options.clone())));
        }
        blocks.push(Block::Heading("What to do with it".to_owned()));
        blocks.push(Block::Commands(self.commands.clone()));
        blocks
    }

    fn what(&self) -> Vec<(String, String)> {
        let board = &self.past.board;
        let mode = format!("{:?}", board.mode).to_lowercase();
        let workers = count(board.workers_had() as u64, "worker");
        let mut rows = vec![
            ("Task", board.task.clone()),
            ("Parameters", whole(board.parameters)),
            ("Workers", format!("{workers}, {mode}")),
            ("Started", date(board.unix_secs)),
            ("Time of training", secs(board.secs)),
            (
                "Epochs done",
                format!("{} of {}", last_epoch(board), board.epochs),
            ),
            ("Steps", whole(board.steps)),
        ];
        if board.lives > 1 {
            let times = count(u64::from(board.lives - 1), "time");
            rows.push(("Taken up again", times));
        }
        rows.extend(speed(board).map(|speed| ("Speed while training", speed)));
        let named = rows
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value));
        named.collect()
    }

    /// The picture, or one of each metric.
    fn pictures(&self, what: What) -> Vec<Block> {
        let board = &self.past.board;
        let source = [Source::of_board(self.past.name(), board)];
        let picture = |metric: &Metric| {
            let picture = draw(what, metric, &source, Format::Svg).ok()??;
            let caption = match what {
                What::Workers => "Speed and staleness of each worker".to_owned(),
                _ => format!("{} over the time of training", capitalized(&metric.name)),
            };
            let svg = String::from_utf8(picture).ok()?;
            Some(Block::Picture(svg, caption))
        };
        if what.is_curve() {
            board.metrics.iter().filter_map(picture).collect()
        } else {
            picture(board.metric()).into_iter().collect()
        }
    }
}

/// The number of the last epoch that is done.
pub fn last_epoch(board: &Board) -> u32 {
    board.done.last().map_or(0, |row| row.epoch)
}

/// Speed while steps were made.
pub fn speed(board: &Board) -> Option<String> {
    let source = Source::of_board(String::new(), board);
    Some(format!("{} {}/s", rate(source.rate?), source.unit))
}

fn about(board: &Board) -> Option<Block> {
    (!board.about.is_empty()).then(|| Block::List(board.about.clone()))
}

/// Best and last value of the metric, in a sentence without its full stop.
fn results(board: &Board) -> Option<String> {
    let (best, last) = (board.best?, board.done.last()?);
    let (metric, name) = (board.metric(), &board.metric().name);
    let of = |row: &EpochRow| value(metric, row.value(metric));
    if !best.value(metric).is_finite() || (has_diverged(board) && best.epoch == last.epoch) {
        let (last, number) = (of(last), last.epoch);
        return Some(format!("No epoch is best: {name} {last} in epoch {number}"));
    }
    let what = match best.validation {
        Some(_) => "validation",
        None => "training",
    };
    let mut words = format!(
        "Best {what} {name} {} (epoch {}), last {} (epoch {})",
        of(&best),
        best.epoch,
        of(last),
        last.epoch
    );
    if last.validation.is_some() {
        let train = value(metric, metric.value(&last.train));
        words = format!("{words}; training {train}");
    }
    Some(words)
}

fn epochs(board: &Board) -> Table {
    let done = &board.done;
    let validated = done.iter().any(|row| row.validation.is_some());
    let mut table = Table::new(&["epoch", "step", "time"]);
    for metric in &board.metrics {
        table.head.push(format!("train {}", metric.short()));
        if validated {
            table.head.push(format!("valid {}", metric.short()));
        }
    }
    let more = ["learning rate", "staleness"].map(ToOwned::to_owned);
    table.head.extend(more);
    let every = done.len().div_ceil(MOST_EPOCHS).max(1);
    let last = done.len() - 1;
    let shown = (0..done.len()).filter(|at| at % every == 0 || *at == last);
    for row in shown.filter_map(|at| done.get(at)) {
        let mut cells = vec![row.epoch.to_string(), whole(row.step), secs(row.secs)];
        for metric in &board.metrics {
            let of = |stats: Stats| value(metric, metric.value(&stats));
            cells.push(of(row.train));
            if validated {
                cells.push(row.validation.map_or_else(String::new, of));
            }
        }
        cells.push(format!("{:.3e}", row.learning_rate));
        cells.push(format!("{:.2}", row.staleness));
        table.row(cells);
    }
    table
}

/// Each host's work, and what its workers spent their time with.
fn hosts(board: &Board) -> Table {
    let mut table = Table::new(&[
        "host",
        "workers",
        "batches",
        "share",
        "a batch",
        "computing",
        "pulling",
        "pushing",
        "waiting",
        "moved",
        "lost",
    ]);
    let all = board.totals.batches.max(1) as f64;
    for host in board.hosts() {
        let totals = &host.totals;
        let [computing, pulling, pushing, waiting] = totals.shares().map(percent);
        let batch_secs = totals.busy_secs() / totals.batches.max(1) as f64;
        table.row([
            host.host,
            host.workers.to_string(),
            whole(totals.batches),
            percent(totals.batches as f64 / all),
            secs(batch_secs),
            computing,
            pulling,
            pushing,
            waiting,
            bytes(totals.bytes),
            host.losses.to_string(),
        ]);
    }
    table
}

fn work(board: &Board) -> Vec<String> {
    let totals = &board.totals;
    let mut lines = Vec::new();
    let plans = [&board.plan, &board.plan_measured].into_iter().flatten();
    lines.extend(plans.map(|plan| format!("{plan}.")));
    lines.extend(board.slowest().map(|slowest| format!("{slowest}.")));
    lines.push(match totals.bytes {
        0 => "No tensor was moved: the workers share the server's memory.".to_owned(),
        moved => {
            let batch = bytes(moved / totals.batches.max(1));
            let moved = bytes(moved);
            format!("{moved} of tensors were moved, {batch} a gradient, both ways together.")
        }
    });
    if board.counts.set_aside > 0 {
        let set_aside = board.counts.set_aside;
        let compute = totals.compute_secs / totals.batches.max(1) as f64;
        lines.push(format!(
            "{} set aside, as --backup-workers or --max-staleness wants it: about {} of one worker's time.",
            match set_aside {
                1 => "1 gradient was".to_owned(),
                many => format!("{} gradients were", whole(many)),
            },
            secs(set_aside as f64 * compute)
        ));
    }
    lines
}
