//! A run of a million steps: its log is read in little memory, and what others read of it is small.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::process::Command;

use dsgd::Stats;
use dsgd_core::event::{Contribution, Cost, Event, Record, Step};
use dsgd_core::metric::Metric;
use dsgd_core::mode::Mode;
use dsgd_observe::tensorboard;

use super::text;
use crate::program::{Program, end, finished};

const STEPS: u64 = 1_000_000;

/// Address space that a program has who reads the log, in KiB: less than the log is long.
const MEMORY: u64 = 250_000;

fn started() -> Record {
    let event = Event::RunStarted {
        unix_secs: 1e9,
        task: "words".to_owned(),
        parameters: 10,
        workers: 1,
        mode: Mode::Async,
        epochs: 1,
        about: Vec::new(),
        metrics: vec![Metric::perplexity()],
        units: ["source tokens", "target tokens"].into(),
        resumed_at: None,
    };
    let at_secs = 0.0;
    Record { at_secs, event }
}

/// A step each hundredth of a second.
fn step(version: u64) -> Record {
    let stats = Stats {
        loss: 2.0,
        count: 1,
        examples: 1,
        units: [5, 5],
        ..Stats::default()
    };
    let part = Contribution {
        stats,
        cost: Cost {
            compute_secs: 0.009,
            wait_secs: 0.001,
            ..Cost::default()
        },
        ..Contribution::default()
    };
    let step = Step {
        epoch: 1,
        version,
        counted: version as usize,
        batches: STEPS as usize,
        parts: vec![part],
        epoch_stats: stats,
        learning_rate: 0.5,
        grad_norm: 1.0,
        live: 1,
        ..Step::default()
    };
    Record {
        at_secs: version as f64 / 100.0,
        event: Event::Step(step),
    }
}

#[test]
fn a_million_steps_are_read_in_little_memory() {
    let program = Program::new();
    fs::create_dir(program.path("long")).unwrap();
    let file = program.path("long/events.jsonl");
    let mut out = BufWriter::new(File::create(&file).unwrap());
    serde_json::to_writer(&mut out, &started()).unwrap();
    let joined =
        "\n{\"at_secs\":0.0,\"event\":\"worker_joined\",\"worker\":0,\"name\":\"local/0\"}\n";
    out.write_all(joined.as_bytes()).unwrap();
    // One is made, and all others are it with other numbers.
    let line = serde_json::to_string(&step(777_777)).unwrap();
    let pieces: Vec<&str> = line.split("7777.77").collect();
    let (before, after) = (pieces[0], pieces[1]);
    for version in 1..=STEPS {
        let after = after.replacen("777777", &version.to_string(), 2);
        writeln!(out, "{before}{}{after}", version as f64 / 100.0).unwrap();
    }
    drop(out);
    let length = fs::metadata(&file).unwrap().len();
    assert!(length > MEMORY * 1024, "{length}");
    let limited = |args: &str| {
        let direct = program.command(args, "");
        let mut command = Command::new("sh");
        let script = format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(direct.get_program());
        command.args(direct.get_args());
        command.current_dir(program.path(""));
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        finished(&end(command.spawn().unwrap()))
    };
    let said = limited("runs long");
    assert!(said.contains("1,000,000\n"), "{said}");
    // 10 tokens in each hundredth of a second.
    assert!(said.contains("1,000 t/s\n"), "{said}");
    limited("plot long --format svg --picture time");
    let svg = text(&program.path("long/plots/perplexity-time.svg"));
    assert!(svg.len() < 60_000, "{}", svg.len());
}

#[test]
fn tensorboard_files_of_a_million_steps_are_small() {
    let folder = tempfile::tempdir().unwrap();
    let mut observer = tensorboard(folder.path(), "").unwrap();
    observer(&started());
    (1..=STEPS).for_each(|version| observer(&step(version)));
    drop(observer);
    let files = fs::read_dir(folder.path()).unwrap();
    let bytes: u64 = files.map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!((200_000..4_000_000).contains(&bytes), "{bytes}");
}
