use std::collections::BTreeSet;

use super::*;
use dsgd_core::event::{Contribution, Cost, Event, Record, Step};
use dsgd_core::metric::Metric;
use dsgd_core::task::{Part, Stats};

fn see(board: &mut Board, at_secs: f64, event: Event) {
    board.see(&Record { at_secs, event });
}

/// Four workers on two hosts, the second slower; one of them is lost.
fn board(steps: u64) -> Board {
    let mut board = Board::default();
    see(
        &mut board,
        0.0,
        Event::RunStarted {
            unix_secs: 1e9,
            task: "seq2seq".to_owned(),
            parameters: 10,
            workers: 4,
            mode: dsgd_core::mode::Mode::Async,
            epochs: 3,
            about: Vec::new(),
            metrics: vec![Metric::perplexity()],
            units: ["source tokens", "target tokens"].into(),
            resumed_at: None,
        },
    );
    let names = ["h1/0", "h1/1", "h2/0", "h2/1"];
    for (worker, name) in names.iter().enumerate() {
        let (worker, name) = (worker as u32, (*name).to_owned());
        see(&mut board, 0.0, Event::WorkerJoined { worker, name });
    }
    let epoch = Event::EpochStarted {
        epoch: 1,
        batches: 400,
        counted: 0,
    };
    see(&mut board, 0.0, epoch);
    for version in 1..=steps {
        let worker = (version % 4) as u32;
        let slow = if worker > 1 { 3.0 } else { 1.0 };
        let stats = Stats {
            loss: 100.0 * (4.0 / (version as f64).sqrt() + 1.0),
            count: 100,
            examples: 10,
            units: [100, 100],
            ..Stats::default()
        };
        let step = Step {
            epoch: 1,
            version,
            counted: version as usize,
            batches: 400,
            learning_rate: 0.01,
            grad_norm: 3.25,
            staleness: 3,
            epoch_stats: stats,
            parts: vec![Contribution {
                worker,
                batches: vec![1],
                part: Part::WHOLE,
                stats,
                cost: Cost {
                    compute_secs: slow,
                    pull_secs: 0.25,
                    push_secs: 0.25,
                    wait_secs: 0.5,
                    bytes: 1_000_000,
                    catches_up: false,
                },
            }],
            ..Step::default()
        };
        see(&mut board, version as f64, Event::Step(step));
    }
    board
}

#[test]
fn a_wide_screen_shows_progress_curve_workers_and_the_slowest() {
    let mut board = board(200);
    let reason = "not heard of for 10 s".to_owned();
    let (worker, name) = (3, "h2/1".to_owned());
    see(
        &mut board,
        200.5,
        Event::WorkerLost {
            worker,
            name,
            reason,
        },
    );
    let lines = super::lines(&board, 140, 30);
    let text = lines.join("\n");
    assert!(lines[0].starts_with("seq2seq epoch 1/3 ████"), "{text}");
    assert!(
        lines[0].contains("200/400 · 16m 42s left of the run · 3 of 4 workers"),
        "{text}"
    );
    assert!(
        lines[1].contains("tokens/s · staleness 3.0 · |grad| 3.25 · lr 1.00e-2"),
        "{text}"
    );
    assert!(
        text.contains("perplexity") && text.contains("train"),
        "{text}"
    );
    let of = |name: &str| lines.iter().find(|line| line.starts_with(name)).unwrap();
    // Computing 3 s of 4: 15 of 20 cells.
    assert!(
        of("h2/0").contains(&format!("{}▓", "█".repeat(15))),
        "{text}"
    );
    assert!(
        of("h2/1").contains("lost at 3m 20s: not heard of for 10 s"),
        "{text}"
    );
    assert!(
        text.contains("h2 is slowest: 3.50 s a batch, the others 1.50 s"),
        "{text}"
    );
    assert!(
        text.contains("3m 20s h2/1 lost: not heard of for 10 s"),
        "{text}"
    );
}

/// More steps than columns: one that went wrong is not lost in a mean.
#[test]
fn a_peak_of_one_step_is_in_the_curve() {
    let peak = 9.0_f64;
    let label = super::value(&Metric::perplexity(), peak.exp());
    let mut board = board(600);
    assert!(!super::lines(&board, 80, 24).join("\n").contains(&label));
    let stats = Stats {
        loss: peak * 100.0,
        count: 100,
        ..Stats::default()
    };
    let step = Step {
        epoch: 1,
        version: 601,
        counted: 601,
        batches: 1000,
        parts: vec![Contribution {
            stats,
            ..Contribution::default()
        }],
        ..Step::default()
    };
    see(&mut board, 601.0, Event::Step(step));
    let text = super::lines(&board, 80, 24).join("\n");
    assert!(text.contains(&label), "{label}: {text}");
}

#[test]
fn a_small_screen_shows_what_matters_most_and_none_is_too_small() {
    let board = board(10);
    let lines = super::lines(&board, 100, 2);
    assert!(lines[0].contains("10/400"), "{lines:?}");
    assert!(lines[1].starts_with("train ppl "), "{lines:?}");
    for width in 0..40 {
        for height in 0..30 {
            super::lines(&board, width, height);
            super::lines(&Board::default(), width, height);
        }
    }
    assert_eq!(rows(&board, 100), 2 + 5 + 1 + 8);
    assert_eq!(rows(&board, 4), 4);
}

#[test]
fn many_workers_are_cut_and_said_to_be() {
    let mut board = board(4);
    for worker in 4..300 {
        let name = format!("h{worker}/0");
        see(&mut board, 5.0, Event::WorkerJoined { worker, name });
    }
    let text = super::lines(&board, 120, 20).join("\n");
    assert!(text.contains("more"), "{text}");
}

#[test]
fn a_narrow_screen_leaves_whole_items_out() {
    let mut board = board(123);
    let long = "gpu-node-17.cluster.example.org/12".to_owned();
    let (worker, name) = (9, long);
    see(&mut board, 150.0, Event::WorkerJoined { worker, name });
    let whole = super::lines(&board, 250, 24);
    let words = |line: &str| -> BTreeSet<String> {
        let words = line.split_whitespace().map(str::to_owned);
        words.filter(|word| !word.contains(['█', '░'])).collect()
    };
    for width in 30..250 {
        let lines = super::lines(&board, width, 24);
        let names = ["h1/0", "h2/1", "….cluster.example.org/12"];
        let of = |lines: &[String]| -> Vec<String> {
            let rows = names.iter().map(|name| row(lines, name).unwrap());
            lines[..2].iter().chain(rows).cloned().collect()
        };
        for (line, whole) in of(&lines).iter().zip(of(&whole)) {
            let (line, whole) = (words(line), words(&whole));
            assert!(line.is_subset(&whole), "{width}: {line:?} of {whole:?}");
        }
    }
    // An ordinary terminal: who works how fast, at what, and what the run has come to.
    let lines = super::lines(&board, 79, 24);
    assert!(lines[0].contains(" 123/400 · "), "{lines:?}");
    assert!(lines[0].contains(" of 4 workers"), "{lines:?}");
    assert!(lines[1].contains("tokens/s"), "{lines:?}");
    assert!(
        row(&lines, "worker").unwrap().contains("batches"),
        "{lines:?}"
    );
}

fn row<'a>(lines: &'a [String], name: &str) -> Option<&'a String> {
    lines.iter().find(|line| line.starts_with(name))
}
