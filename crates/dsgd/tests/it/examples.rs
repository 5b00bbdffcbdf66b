//! The examples do what they say.

use crate::program::Program;

#[test]
fn the_whole_users_program_has_forty_lines() {
    let linear = include_str!("../../examples/linear.rs");
    assert!(linear.lines().count() <= 40);
}

/// Two spirals are told apart by a model of candle's, with more workers than one.
#[test]
fn a_model_of_candles_learns() {
    let program = Program::of("candle");
    let out = program.says("train -n 2 --run-dir run");
    assert!(out.contains("eval run/spirals_epoch"), "{out}");
    let out = program.says("eval run");
    let accuracy = out.lines().find_map(|line| line.strip_prefix("accuracy"));
    let accuracy = accuracy.unwrap().trim().trim_end_matches(" %");
    assert!(accuracy.parse::<f64>().unwrap() > 95.0, "{out}");
}
