use super::*;
use dsgd_core::event::{Contribution, Cost};
use dsgd_core::task::{Part, Stats};

fn record(at_secs: f64, event: Event) -> Record {
    Record { at_secs, event }
}

fn started(resumed_at: Option<u64>) -> Event {
    Event::RunStarted {
        unix_secs: 1e9,
        task: "words".to_owned(),
        parameters: 10,
        workers: 2,
        mode: Mode::Async,
        epochs: 3,
        about: Vec::new(),
        metrics: vec![Metric::perplexity()],
        units: ["source tokens", "target tokens"].into(),
        resumed_at,
    }
}

fn joined(worker: u32, name: &str) -> Event {
    let name = name.to_owned();
    Event::WorkerJoined { worker, name }
}

fn lost(worker: u32, name: &str) -> Event {
    let (name, reason) = (name.to_owned(), "gone".to_owned());
    Event::WorkerLost {
        worker,
        name,
        reason,
    }
}

/// A step from one gradient that took so long.
fn step(version: u64, worker: u32, compute_secs: f64) -> Event {
    Event::Step(Step {
        epoch: 1,
        version,
        counted: version as usize,
        batches: 1_000_000,
        learning_rate: 0.5,
        grad_norm: version as f64,
        parts: vec![Contribution {
            worker,
            batches: vec![version as usize],
            part: Part::WHOLE,
            stats: Stats {
                loss: 2.0,
                count: 1,
                examples: 4,
                units: [5, 5],
                ..Stats::default()
            },
            cost: Cost {
                compute_secs,
                wait_secs: 0.5,
                bytes: 100,
                ..Cost::default()
            },
        }],
        ..Step::default()
    })
}

/// What happened to one step of many stays visible, however long the run becomes.
#[test]
fn a_curve_keeps_its_extremes() {
    let mut board = Board::default();
    board.see(&record(0.0, started(None)));
    for version in 1..=100_000 {
        let mut event = step(version, 0, 0.5);
        if let Event::Step(step) = &mut event {
            step.parts[0].stats.loss = match version {
                777 => 50.0,
                60_000 => 0.25,
                _ => 2.0,
            };
        }
        board.see(&record(version as f64, event));
    }
    let buckets = &board.series.buckets;
    let of = |step: u64| buckets.iter().find(|bucket| bucket.step >= step).unwrap();
    assert_eq!((of(777).lowest, of(777).highest), (2.0, 50.0));
    assert_eq!((of(60_000).lowest, of(60_000).highest), (0.25, 2.0));
    assert!(buckets.iter().all(|bucket| bucket.highest <= 50.0));
}

#[test]
fn a_long_run_has_a_small_board_and_true_means() {
    let mut board = Board::default();
    board.see(&record(0.0, started(None)));
    board.see(&record(0.0, joined(0, "local/0")));
    let steps = 100_000;
    for version in 1..=steps {
        board.see(&record(version as f64, step(version, 0, 0.5)));
        // Workers that come and go make no rows.
        if version % 10 == 0 {
            let number = version as u32;
            board.see(&record(version as f64, joined(number, "h1/0")));
            board.see(&record(version as f64, lost(number, "h1/0")));
        }
    }
    let buckets = &board.series.buckets;
    assert!((512..=1024).contains(&buckets.len()), "{}", buckets.len());
    let counted: u64 = buckets.iter().map(|bucket| bucket.steps).sum();
    assert_eq!(counted, steps);
    let first = buckets[0];
    assert_eq!(first.steps, board.series.stride);
    // Norms are 1, 2, 3, …
    assert!((first.grad_norm - (1 + first.steps) as f64 / 2.0).abs() < 1e-9);
    assert!((first.stats.mean_loss() - 2.0).abs() < 1e-12);
    assert_eq!(board.workers.len(), 2);
    assert_eq!(board.workers["h1/0"].losses, 10_000);
    assert_eq!(board.counts.lost, 10_000);
    assert!(board.happenings.len() <= MOST_HAPPENINGS);
    assert_eq!(board.happened, 20_001);
    assert!(board.moments.len() <= MOST_MOMENTS);
    assert!(board.names.len() <= 1);
    let row = &board.workers["local/0"];
    // 10 tokens a second, half of the time computing.
    assert!((row.rate - 10.0).abs() < 1e-9);
    assert!((row.totals.shares()[0] - 0.5).abs() < 1e-12);
    assert_eq!(row.totals.bytes, 100 * steps);
    // Another 900,000 batches at 1 s, and two more epochs.
    assert_eq!(board.remaining_secs(), Some(2_900_000.0));
}

#[test]
fn what_a_resumption_undoes_is_undone() {
    let mut board = Board::default();
    let epoch = |counted| Event::EpochStarted {
        epoch: 1,
        batches: 1_000_000,
        counted,
    };
    board.see(&record(0.0, started(None)));
    board.see(&record(0.0, epoch(0)));
    board.see(&record(0.0, joined(0, "h1/0")));
    for version in 1..=100 {
        board.see(&record(version as f64, step(version, 0, 0.5)));
    }
    assert_eq!(board.remaining_secs(), Some(999_900.0 + 2e6));
    board.see(&record(0.0, started(Some(60))));
    assert_eq!((board.lives, board.steps, board.secs), (2, 60, 100.0));
    assert_eq!(board.series.buckets.len(), 60);
    assert_eq!(board.workers["h1/0"].state, Presence::Lost);
    board.see(&record(1.0, joined(7, "h1/0")));
    board.see(&record(2.0, lost(0, "h1/0")));
    assert_eq!(board.workers["h1/0"].state, Presence::Working, "7 is there");
    board.see(&record(3.0, step(61, 7, 0.5)));
    let last = board.series.buckets.last().unwrap();
    assert!((last.secs - 103.0).abs() < 1e-9);
    // 61 to 100 were made twice; no time but that of steps has passed.
    assert_eq!((board.counts.undone, board.stepping_secs), (40, 103.0));
    board.see(&record(
        4.0,
        Event::RunFinished {
            outcome: "finished".to_owned(),
            steps: 61,
        },
    ));
    assert_eq!(board.workers["h1/0"].state, Presence::Dismissed);
    assert_eq!(board.outcome.as_deref(), Some("finished"));
}

#[test]
fn the_best_epoch_is_known_also_after_a_resumption() {
    let mut board = Board::default();
    let done = |epoch: u32, loss: f64| Event::EpochFinished {
        epoch,
        train: Stats::of_examples(1.0, 1),
        validation: Some(Stats::of_examples(loss, 1)),
        learning_rate: 0.5,
        refused: 0,
        set_aside: 0,
        left_out: 0,
        staleness: 0.0,
    };
    board.see(&record(0.0, started(None)));
    for (epoch, loss) in [(1, f64::NAN), (2, 3.0), (3, 2.0), (4, 2.5)] {
        board.see(&record(f64::from(epoch), step(u64::from(epoch), 0, 0.5)));
        board.see(&record(f64::from(epoch), done(epoch, loss)));
    }
    assert_eq!(board.best.unwrap().epoch, 3);
    board.see(&record(0.0, started(Some(2))));
    assert_eq!(board.best.unwrap().epoch, 2);
}

#[test]
fn the_slowest_host_is_named_with_the_cause() {
    let mut board = Board::default();
    for (number, host) in ["h1/0", "h1/1", "h2/0"].iter().enumerate() {
        board.see(&record(0.0, joined(number as u32, host)));
    }
    for version in 1..=30 {
        let worker = version as u32 % 3;
        let secs = if worker == 2 { 3.0 } else { 1.0 };
        board.see(&record(version as f64, step(version, worker, secs)));
    }
    let words = board.slowest().unwrap().to_string();
    assert_eq!(
        words,
        "h2 is slowest: 3.00 s a batch, the others 1.00 s; it computes longer: fewer or busier cores"
    );
    assert_eq!(board.hosts()[0].workers, 2);
}
