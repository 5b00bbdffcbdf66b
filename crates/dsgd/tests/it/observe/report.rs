//! Reports, and tables of runs.

use std::fs;

use super::text;
use crate::program::{Program, finished, words};

#[test]
fn a_report_tells_of_a_lost_worker() {
    let program = Program::new();
    let said = finished(&program.start("train -n 2 --epochs 2 --run-dir r", "panic:5"));
    let end: Vec<_> = said.lines().rev().take(4).collect();
    assert_eq!(end[0], "Report: r/report.html", "{said}");
    assert_eq!(end[1], "Faults: 1 worker lost", "{said}");
    assert!(end[2].starts_with("40 steps in "), "{said}");
    assert!(end[3].starts_with("Best validation perplexity "), "{said}");
    let markdown = text(&program.path("r/report.md"));
    let expected = [
        "# Run r: finished",
        "| Task | words |",
        "| Epochs done | 2 of 2 |",
        "| Workers | 2 workers, async |",
        "| Workers lost | 1 |",
        "panicked: trouble with gradient 5",
        "| --epochs | 2 |\n| --workers | 2 |\n",
        "eval r\n",
        "train --resume r --epochs 12\n",
        "tensorboard --logdir r/tensorboard\n",
    ];
    for part in expected {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
    let page = text(&program.path("r/report.html"));
    assert_eq!(page.matches("<svg ").count(), 2, "{page}");
    assert!(page.contains("Log-perplexity against time"));
    assert!(page.contains("prefers-color-scheme: dark"));
    for outside in ["src=", "href=", "url(", "<script", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // Written anew, also for a run that is at something else now.
    let events = text(&program.path("r/events.jsonl"));
    let half: Vec<_> = events.lines().take(30).collect();
    fs::write(
        program.path("r/events.jsonl"),
        half.join("\n") + "\n{\"half\n",
    )
    .unwrap();
    fs::remove_file(program.path("r/report.html")).unwrap();
    let said = program.says("report r");
    assert!(said.ends_with("r/report.md\nr/report.html\n"), "{said}");
    let markdown = text(&program.path("r/report.md"));
    assert!(markdown.starts_with("# Run r: running\n"), "{markdown}");
    assert!(
        markdown.contains("1 line of events.jsonl could not be read"),
        "{markdown}"
    );
}

#[test]
fn what_a_restart_undid_is_counted() {
    let program = Program::new();
    program.says("train -q -n 1 --epochs 2 --run-dir r");
    // The server was killed ten steps after its checkpoint.
    let events = text(&program.path("r/events.jsonl"));
    let lines: Vec<_> = events.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.contains("\"version\":30,"));
    let began = lines[0].replace("\"resumed_at\":null", "\"resumed_at\":20");
    let rest = lines
        .iter()
        .position(|line| line.contains("\"version\":21,"));
    let told = [&lines[..=at.unwrap()], &[&began], &lines[rest.unwrap()..]].concat();
    fs::write(program.path("r/events.jsonl"), told.join("\n") + "\n").unwrap();
    let said = program.says("report r");
    assert!(said.contains("Faults: 10 steps undone\n"), "{said}");
    let markdown = text(&program.path("r/report.md"));
    assert!(
        markdown.contains("| Taken up again | 1 time |"),
        "{markdown}"
    );
    assert!(
        markdown.contains("10 steps had to be made again: about "),
        "{markdown}"
    );
}

#[test]
fn a_report_never_fails_a_run() {
    let program = Program::new();
    fs::create_dir_all(program.path("r/report.md")).unwrap();
    let output = program.start("train -q -n 1 --epochs 1 --run-dir r", "");
    let (out, err) = words(&output);
    assert!(output.status.success(), "{err}");
    assert!(err.contains("Warning: cannot write r/report.md"), "{err}");
    assert!(!out.contains("Report") && !out.contains("Faults"), "{out}");
}

#[test]
fn runs_are_listed_and_compared() {
    let program = Program::new();
    program.says("train -q -n 1 --epochs 1");
    program.says("train -q -n 2 --epochs 2 --dropout 0.1");
    fs::create_dir_all(program.path("runs/no-run")).unwrap();
    let listed = program.says("runs");
    let rows: Vec<Vec<&str>> = listed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{listed}");
    assert_eq!(rows[0][..4], ["run", "task", "state", "epochs"]);
    assert_eq!(rows[1][..5], ["words-1", "words", "finished", "1/1", "20"]);
    assert_eq!(rows[2][..5], ["words-2", "words", "finished", "2/2", "40"]);
    assert!(
        listed.lines().all(|line| line.chars().count() <= 100),
        "{listed}"
    );
    let compared = program.says("runs runs/words-1 runs/words-2");
    let line = |name: &str| {
        let line = compared.lines().find(|line| line.starts_with(name));
        let words = line.unwrap_or_else(|| panic!("{name}: {compared}"));
        words.split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("--workers"), ["--workers", "1", "2"]);
    assert_eq!(line("--epochs"), ["--epochs", "1", "2"]);
    assert_eq!(line("--dropout"), ["--dropout", "0.2", "0.1"]);
    assert_eq!(line("faults"), ["faults", "0", "0"]);
    assert!(!compared.contains("--seed"), "{compared}");
    assert!(compared.ends_with("The last 3 lines are the options that differ.\n"));
    let why = program.fails("runs runs/no-run", "");
    assert!(why.contains("runs/no-run holds no run"), "{why}");
}
