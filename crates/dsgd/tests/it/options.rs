//! Options from files and from the command line, through a whole program.

use std::fs;

use crate::program::Program;

#[test]
fn what_a_file_sets_to_true_can_be_typed_back_to_false() {
    let program = Program::new();
    let run = |name: &str, args: &str| {
        program.says(&format!("train --epochs 1 --run-dir {name} {args}"));
        let config = fs::read_to_string(program.path(name).join("config.toml")).unwrap();
        let mut lines = config.lines();
        let line = lines.find_map(|line| line.strip_prefix("staleness_lr = "));
        line.unwrap().to_owned()
    };
    assert_eq!(run("default", ""), "false");
    assert_eq!(run("on", "--staleness-lr"), "true");
    let file = "--config on/config.toml";
    assert_eq!(run("same", file), "true");
    assert_eq!(run("off", &format!("{file} --staleness-lr=false")), "false");
    assert_eq!(run("word", &format!("{file} -staleness_lr false")), "false");
    let error = program.fails("train --staleness-lr=perhaps", "");
    assert!(error.contains("true, false"), "{error}");
}
