//! Options as the ancestor spelled them, through a whole program.

use dsgd_core::event::Event;

use crate::program::{Program, finished};
use crate::runs::records;

#[test]
fn the_ancestors_command_line_trains() {
    let program = Program::of("linear");
    let args = "train -n_proc 2 -ada_grad true -gpuid -1 -learning_rate 0.3 -run_dir run";
    finished(&program.start(args, ""));
    let config = std::fs::read_to_string(program.path("run/config.toml")).unwrap();
    for line in [
        "workers = 2",
        "optimizer = \"adagrad\"",
        "learning_rate = 0.3",
    ] {
        assert!(config.contains(line), "{line:?} is not in\n{config}");
    }
    let last = records(&program.path("run")).into_iter().rev();
    let mut trained = last.filter_map(|record| match record.event {
        Event::EpochFinished { train, .. } => Some(train.mean_loss()),
        _ => None,
    });
    // The noise is a sine of amplitude 0.1, of which no line explains anything: 0.1² / 2.
    let loss = trained.next().unwrap();
    assert!((0.004..0.007).contains(&loss), "{loss}");
}

#[test]
fn a_gpu_is_refused_before_anything_is_begun() {
    let program = Program::of("linear");
    let error = program.fails("train -gpuid 0 -run_dir run", "");
    assert!(error.contains("CPUs only"), "{error}");
    assert!(!program.path("run").exists());
}
