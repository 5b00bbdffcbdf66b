//! Options from files and from the command line, through a whole program.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;

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

/// Everything below a folder, but for the file that says which process holds it.
fn everything(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = entry.path().display().to_string();
        if entry.path().is_dir() {
            all.extend(everything(&entry.path()));
            all.insert(name, Vec::new());
        } else if entry.file_name() != "server.pid" {
            all.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    all
}

/// Whatever was wrong, the command after it finds the world as it was.
#[test]
fn a_refused_command_changes_nothing() {
    let program = Program::new();
    program.says("train -q -n 2 --epochs 1 --run-dir run");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    fs::write(program.path("ssh_config"), "Port 1\n").unwrap();
    let before = everything(&program.path(""));
    let unchanged = |args: &str| {
        program.fails(args, "");
        let after = everything(&program.path(""));
        assert!(before == after, "{args}: {:?}", after.keys());
    };
    for words in [
        "--remote -H 127.0.0.1 --ssh-config ssh_config",
        "--localhost --binary nonsense",
        "--hosts no-such-list",
        "-n 0",
        "-n 2 --backup-workers 2",
        "--mode split",
        "--parts 2",
        "--local-steps 2",
        "--mode local --round 2",
        "--listen nonsense",
        &format!("--listen {taken}"),
        &format!("--dashboard {taken}"),
        "--learning-rate nan",
        "--default nothing-of-that-name",
        "--default workers -n 3",
    ] {
        unchanged(&format!("train --resume run --epochs 2 {words}"));
        unchanged(&format!("train --run-dir a/b/c {words}"));
        unchanged(&format!("train {words}"));
    }
    for words in [
        "--examples 40",
        "--default examples",
        "--optimizer adam",
        "--epochs 1",
    ] {
        unchanged(&format!("train --resume run {words}"));
    }
    program.says("train -q --resume run --epochs 2");
}

#[test]
fn what_was_given_once_can_be_taken_back() {
    let program = Program::new();
    let line = |run: &str, name: &str| {
        let config = fs::read_to_string(program.path(run).join("config.toml")).unwrap();
        let mut lines = config.lines();
        let line = lines.find(|line| line.split(' ').next() == Some(name));
        line.map(str::to_owned)
    };
    let first =
        "-n 2 --max-staleness 3 --wait 9 --save-file mine --lr 0.5 --dropout 0.4 --epochs 1";
    program.says(&format!("train -q {first} --run-dir run"));
    assert_eq!(line("run", "max_staleness").unwrap(), "max_staleness = 3");
    program.says(
        "train -q --resume run --epochs 2 --default max-staleness --default n,wait --default lr",
    );
    for name in ["max_staleness", "workers", "wait"] {
        assert_eq!(line("run", name), None);
    }
    assert_eq!(line("run", "save_file").unwrap(), "save_file = \"mine\"");
    assert!(
        line("run", "learning_rate")
            .unwrap()
            .starts_with("learning_rate = 0.01")
    );
    let again = "--config run/config.toml --default save_file --default dropout --run-dir again";
    program.says(&format!("train -q {again}"));
    assert_eq!(line("again", "save_file"), None);
    assert_eq!(line("again", "dropout").unwrap(), "dropout = 0.2");
}

/// Where workers are is one question: its newest answer holds, whatever was said before.
#[test]
fn hosts_that_were_given_once_can_be_taken_back() {
    let program = Program::new();
    program.says("train -q -n 1 --epochs 1 --run-dir run");
    let file = program.path("run/config.toml");
    let config = fs::read_to_string(&file).unwrap();
    let here = "remote = true\nhost = \"nosuchhost.invalid\"\n";
    for words in [
        "--remote=false",
        "--default remote,host",
        "--default host --remote=false",
    ] {
        let given = config.replace("remote = false\n", here);
        assert_ne!(given, config);
        fs::write(&file, given).unwrap();
        program.says(&format!("train -q --resume run --epochs 2 {words}"));
        let now = fs::read_to_string(&file).unwrap();
        assert!(!now.contains("nosuchhost"), "{now}");
        fs::remove_dir_all(program.path("run")).unwrap();
        program.says("train -q -n 1 --epochs 1 --run-dir run");
    }
}

/// What is typed to be chosen is chosen, whatever a file says.
#[test]
fn a_mode_can_be_given_back() {
    let program = Program::new();
    let mode = |run: &str| {
        let file = program.path(run).join("config.toml");
        let config = fs::read_to_string(file).unwrap();
        let line = config.lines().find(|line| line.starts_with("mode = "));
        line.map(str::to_owned)
    };
    program.says("train -q -n 1 --mode sync --epochs 1 --run-dir run");
    assert_eq!(mode("run").as_deref(), Some("mode = \"sync\""));
    program.says("train -q --config run/config.toml --mode auto --run-dir again");
    assert_eq!(mode("again"), None);
    // Optimizers' states alone travel so.
    let config = fs::read_to_string(program.path("run/config.toml")).unwrap();
    let config = config.replace("mode = ", "codec = \"log8\"\nmode = ");
    fs::write(program.path("log8.toml"), config).unwrap();
    let error = program.fails("train -q --config log8.toml --run-dir log8", "");
    assert!(error.contains("--codec log8"), "{error}");
    let error = program.fails("train -q --codec log8", "");
    assert!(error.contains("none, bf16, int8, int4"), "{error}");
    let error = program.fails("train -q --mode nonsense", "");
    for name in ["auto", "split", "async", "sync", "local"] {
        assert!(error.contains(name), "{error}");
    }
}
