//! The program as a person uses it: the built binary in a folder of its own.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The program in a fresh folder.
struct Program {
    folder: TempDir,
}

impl Program {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn call(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_dsgd"))
            .args(args)
            .current_dir(self.folder.path())
            .output()
            .unwrap()
    }

    /// What it says when it succeeds.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.call(args);
        let (out, err) = words(&output);
        assert!(output.status.success(), "{args:?}\n{out}\n{err}");
        out
    }

    /// What it says when it fails, as it should.
    fn fails(&self, args: &[&str]) -> String {
        let output = self.call(args);
        let (out, err) = words(&output);
        assert!(!output.status.success(), "{args:?}\n{out}\n{err}");
        assert!(!err.contains("panicked"), "{args:?}\n{err}");
        err
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// What it complained of.
fn words_of(output: &Output) -> String {
    words(output).1
}

/// A model and data so small that a run takes no time.
const TINY: [&str; 10] = [
    "--numbers",
    "400",
    "--hidden-size",
    "16",
    "--word-vec-size",
    "8",
    "--epochs",
    "2",
    "-n",
    "2",
];

/// That many lines, each made from its number.
fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    let lines: Vec<_> = (0..count).map(line).collect();
    lines.join("\n") + "\n"
}

fn checkpoints(run: &Path) -> Vec<String> {
    let files = fs::read_dir(run).unwrap().map(|e| e.unwrap().file_name());
    let mut files: Vec<_> = files.map(|n| n.into_string().unwrap()).collect();
    files.retain(|n| n.ends_with(".safetensors") && !n.ends_with(".state.safetensors"));
    files.sort();
    files
}

/// The promise of the README's first command, to the last word.
#[test]
fn number_words_are_learnt_from_nothing() {
    let program = Program::new();
    let out = program.ok(&["train", "-n", "4"]);
    let next = out
        .lines()
        .find(|line| line.contains(" translate "))
        .unwrap();
    let checkpoint = next
        .split_whitespace()
        .find(|word| word.ends_with(".safetensors"))
        .unwrap();
    let question = next.split('"').nth(1).unwrap();
    assert_eq!(question, "four hundred and seven thousand and twelve");
    let answer = program.ok(&["translate", checkpoint, question]);
    assert_eq!(answer.trim(), "quatre cent sept mille douze");

    let report = program.ok(&["eval", "runs/seq2seq-1"]);
    let exact = report.lines().find(|line| line.contains("exact")).unwrap();
    let share: f64 = exact
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .find_map(|word| word.parse().ok())
        .unwrap();
    assert!(share >= 98.0, "{report}");
}

/// The terminal goes, and the command to go on is mistyped at first.
#[test]
fn a_run_outlives_its_terminal_and_a_refused_command() {
    let program = Program::new();
    let words =
        "train --numbers 400 --hidden-size 16 --word-vec-size 8 -n 1 --epochs 100000 --run-dir run";
    let mut child = Command::new(env!("CARGO_BIN_EXE_dsgd"))
        .args(words.split(' '))
        .current_dir(program.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let events = program.path("run/events.jsonl");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string(&events).is_ok_and(|text| text.contains("epoch_finished")) {
        assert!(Instant::now() < deadline, "it does not train");
        thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    let hung_up = Command::new("kill").args(["-s", "HUP", &pid]).status();
    assert!(hung_up.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(129));
    let before = fs::read(program.path("run/config.toml")).unwrap();
    program.write("ssh_config", "Port 1\n");
    let refused = [
        "train",
        "--resume",
        "run",
        "-H",
        "127.0.0.1",
        "--ssh-config",
        "ssh_config",
    ];
    program.fails(&refused);
    program.fails(&[
        "train",
        "--resume",
        "run",
        "-n",
        "1",
        "--backup-workers",
        "1",
    ]);
    assert!(before == fs::read(program.path("run/config.toml")).unwrap());
    let text = fs::read_to_string(&events).unwrap();
    let epoch = text.matches("\"epoch_finished\"").count() + 1;
    program.ok(&["train", "--resume", "run", "--epochs", &epoch.to_string()]);
    let text = fs::read_to_string(&events).unwrap();
    assert_eq!(text.matches("\"epoch_finished\"").count(), epoch);
}

/// What cannot be told has not gone well, and what nobody wants to read ends without a word.
#[test]
fn output_that_cannot_be_written_is_no_success() {
    let program = Program::new();
    program.ok(&[&["train", "--run-dir", "run"], &TINY[..]].concat());
    program.write("a", lines(20, |n| format!("one {n}")));
    let commands = [
        "--help",
        "--version",
        "train --help",
        "completions bash",
        "completions fish",
        "runs .",
        "runs run run",
        "report run",
        "plot run",
        "eval run",
        "watch run",
        "keygen",
        "translate run one",
        "translate run -i a",
        "bench step --steps 1 --warmup 0 --hidden-size 8 --word-vec-size 8 --batch-size 4",
        "data prepare --srcfile a --targetfile a --srcvalfile a --targetvalfile a --outputfile b",
    ];
    for words in commands {
        let call = |to: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_dsgd"));
            command.args(words.split(' ')).current_dir(program.path(""));
            command
                .env("HOME", program.path("home"))
                .stdin(Stdio::null())
                .stdout(to);
            command.stderr(Stdio::piped()).output().unwrap()
        };
        let full = call(
            File::options()
                .write(true)
                .open("/dev/full")
                .unwrap()
                .into(),
        );
        let err = words_of(&full);
        assert_eq!(full.status.code(), Some(1), "{words}: {err}");
        assert!(err.contains("No space left on device"), "{words}: {err}");
        assert_eq!(err.matches("error: ").count(), 1, "{words}: {err}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = call(writer.into());
        let err = words_of(&closed);
        assert_eq!(closed.status.code(), Some(141), "{words}: {err}");
        assert!(
            !err.contains("error") && !err.contains("panicked"),
            "{words}: {err}"
        );
    }
}

/// A run's output is not what it is for: it trains to the end, and then says that it could not be told of.
#[test]
fn a_run_whose_output_cannot_be_written_trains_and_says_so() {
    let program = Program::new();
    for form in ["--plain", "--log-format=json"] {
        let run = form.trim_start_matches('-').replace('=', "-");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_dsgd"))
            .args(["train", form, "--run-dir", &run])
            .args(TINY)
            .current_dir(program.path(""))
            .stdout(full)
            .output()
            .unwrap();
        let err = words_of(&output);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("cannot write to standard output"), "{err}");
        assert!(checkpoints(&program.path(&run)).len() > 1);
        let log = fs::read_to_string(program.path(&run).join("log.txt")).unwrap();
        assert!(log.contains("Run finished"), "{log}");
    }
}

/// Sizes that no machine has are refused in words, each, before memory is asked for.
#[test]
fn a_model_that_cannot_be_had_is_refused_with_figures() {
    let program = Program::new();
    for (args, words) in [
        ("--hidden-size 1000000000", "need about"),
        ("--word-vec-size 1000000000", "need about"),
        (
            "--hidden-size 18446744073709551615",
            "hidden_size is 18446744073709551615",
        ),
        ("--num-layers 1000000000", "layers is 1000000000"),
        ("--hidden-size 3000 -n 4000", "would fit"),
    ] {
        let args = format!("train --numbers 400 {args}");
        let error = program.fails(&args.split(' ').collect::<Vec<_>>());
        assert!(error.contains(words), "{args}: {error}");
        assert!(!error.contains("killed by signal"), "{args}: {error}");
        assert!(!program.path("runs").exists());
    }
}

/// Each error stands there once, and says what to do.
#[test]
fn an_error_is_reported_once_and_ends_with_what_to_do() {
    let program = Program::new();
    for (args, what, remedy) in [
        ("train --data-file no.hdf5", "No such file", "its name"),
        (
            "train --src-train no --targ-train no",
            "No such file",
            "its name",
        ),
        ("train --pre-word-vecs no.hdf5", "No such file", ""),
        ("train --train-from no", "there is no checkpoint no", "give"),
        ("data show no.hdf5", "No such file", "its name"),
        (
            "train --listen 192.0.2.1:5",
            "Cannot assign",
            "this machine",
        ),
        (
            "train --dashboard 192.0.2.1:5",
            "Cannot assign",
            "this machine",
        ),
        ("train --hosts no", "No such file", ""),
    ] {
        let error = program.fails(&args.split(' ').collect::<Vec<_>>());
        assert_eq!(error.matches(what).count(), 1, "{args}: {error}");
        let (_, after) = error.rsplit_once(what).unwrap();
        assert!(after.contains(remedy), "{args}: {error}");
    }
}

#[test]
fn help_fits_a_screen() {
    let program = Program::new();
    let help = program.ok(&["--help"]);
    assert!(help.lines().count() <= 24, "{help}");
    assert!(
        help.lines().all(|line| line.chars().count() <= 100),
        "{help}"
    );
    for command in [
        "train",
        "eval",
        "translate",
        "chat",
        "data",
        "bench",
        "completions",
    ] {
        assert!(help.contains(command), "{help}");
    }
}

#[test]
fn help_of_training_is_grouped_and_shows_defaults() {
    let help = Program::new().ok(&["train", "--help"]);
    for heading in [
        "Workers:",
        "Training:",
        "Optimizer:",
        "Run and checkpoints:",
        "Output:",
        "Task seq2seq",
    ] {
        assert!(help.contains(heading), "no {heading} in\n{help}");
    }
    for default in [
        "[default: 4]",
        "[default: 0.01]",
        "[default: adagrad]",
        "[default: lstm]",
    ] {
        assert!(help.contains(default), "no {default} in\n{help}");
    }
}

#[test]
fn completions_are_for_the_shell_that_was_asked_for() {
    let program = Program::new();
    assert!(program.ok(&["completions", "bash"]).contains("complete -F"));
    assert!(
        program
            .ok(&["completions", "fish"])
            .contains("complete -c dsgd")
    );
    assert!(program.fails(&["completions", "tcsh"]).contains("bash"));
}

#[test]
fn a_typing_error_is_answered_with_what_was_meant() {
    let program = Program::new();
    assert!(
        program
            .fails(&["train", "--worker", "2"])
            .contains("--workers")
    );
    assert!(program.fails(&["trian"]).contains("train"));
    assert!(
        program
            .fails(&["train", "--layer-type", "lsmt"])
            .contains("lstm")
    );
    assert!(
        program
            .fails(&["train", "--task", "nothing"])
            .contains("seq2seq")
    );
}

/// Every option of the ancestor in its own spelling.
#[test]
fn the_ancestors_command_line_works() {
    let program = Program::new();
    let old = "-server_class demo_server -add_to_path lib -save_file model -num_layers 1 -hidden_size 12 \
               -word_vec_size 8 -layer_type gru -model_type red -num_epochs 2 -start_epoch 1 -param_init 0.1 \
               -learning_rate 0.05 -ada_grad true -max_grad_norm 5 -dropout 0.1 -lr_decay 0.5 -start_decay_at 9 \
               -fix_word_vecs 0 -beam_k 5 -max_bleu 4 -gpuid -1 -gpuid2 -1 -save_every 1 -print_every 5 \
               -seed 3435 -n_proc 2 -torch_path /opt/torch -extension .sh -utter_context 2 -wait 200 \
               -numbers 300 -run_dir old";
    let words: Vec<&str> = std::iter::once("train")
        .chain(old.split_whitespace())
        .collect();
    let output = program.call(&words);
    let (out, err) = self::words(&output);
    assert!(output.status.success(), "{out}\n{err}");
    for needless in ["--add-to-path", "--torch-path", "--extension"] {
        assert!(err.contains(&format!("{needless} is not needed")), "{err}");
    }
    assert!(out.contains("gru"), "{out}");
    let saved = checkpoints(&program.path("old"));
    assert!(
        !saved.is_empty() && saved.iter().all(|name| name.starts_with("model_epoch")),
        "{saved:?}"
    );
    let config = fs::read_to_string(program.path("old/config.toml")).unwrap();
    assert!(config.contains("wait = 200"), "{config}");

    assert!(program.fails(&["train", "-gpuid", "0"]).contains("CPU"));
    let said = program.fails(&["train", "-remote", "-username", "me"]);
    assert!(said.contains("there is no client_list.txt here"), "{said}");
}

#[test]
fn training_data_prepared_from_text_is_trained_on_and_translated() {
    let program = Program::new();
    let source = lines(80, |n| format!("w{} w{} end", n % 7, n % 5));
    let target = lines(80, |n| format!("v{} v{} fin", n % 7, n % 5));
    for (name, text) in [
        ("a", &source),
        ("b", &target),
        ("c", &source),
        ("d", &target),
    ] {
        program.write(name, text);
    }
    program.ok(&[
        "data",
        "prepare",
        "--srcfile",
        "a",
        "--targetfile",
        "b",
        "--srcvalfile",
        "c",
        "--targetvalfile",
        "d",
        "--outputfile",
        "demo",
    ]);
    let shown = program.ok(&["data", "show", "demo-train.hdf5"]);
    assert!(shown.contains("80"), "{shown}");
    let out = program.ok(&[
        "train",
        "--data-file",
        "demo-train.hdf5",
        "--val-data-file",
        "demo-val.hdf5",
        "--hidden-size",
        "24",
        "--word-vec-size",
        "12",
        "--num-layers",
        "1",
        "--dropout",
        "0",
        "--epochs",
        "60",
        "--lr",
        "0.1",
        "-n",
        "1",
        "--lr-schedule",
        "constant",
        "--run-dir",
        "run",
    ]);
    assert!(out.contains("Number of parameters:"), "{out}");
    let answer = program.ok(&["translate", "run", "w3 w1 end"]);
    assert_eq!(answer.trim(), "v3 v1 fin");
    // A note has no place between translations: only where it goes elsewhere it is made.
    let cut = ["translate", "run", "--max-length", "2", "w3 w1 unheard"];
    assert!(words_of(&program.call(&cut)).contains("unknown word `unheard`"));
    let both = fs::File::create(program.path("both")).unwrap();
    let mut merged = Command::new(env!("CARGO_BIN_EXE_dsgd"));
    merged.args(cut).current_dir(program.path(""));
    merged.stdout(both.try_clone().unwrap()).stderr(both);
    assert!(merged.status().unwrap().success());
    let both = fs::read_to_string(program.path("both")).unwrap();
    assert_eq!(both.lines().count(), 1, "{both}");
    let report = program.ok(&["eval", "run"]);
    assert!(report.contains("BLEU"), "{report}");
}

/// Once, wherever the run is told of.
#[test]
fn pairs_of_a_text_that_are_left_out_are_counted() {
    let program = Program::new();
    program.write("a", "one two\n\none two three\n\n");
    program.write("b", "un deux\nun\nun deux trois\n");
    let out = program.ok(&[
        "train",
        "--src-train",
        "a",
        "--targ-train",
        "b",
        "--max-length",
        "2",
        "--hidden-size",
        "4",
        "--word-vec-size",
        "4",
        "--epochs",
        "1",
        "-n",
        "2",
        "--run-dir",
        "run",
    ]);
    let read = |name: &str| fs::read_to_string(program.path("run").join(name)).unwrap();
    for text in [out, read("log.txt"), read("report.md"), read("report.html")] {
        let said = "a and b: 1 of 3 pairs kept, 1 dropped with more than 2 words, 1 dropped with an empty \
                    side, 1 empty line dropped without a pair";
        assert_eq!(text.matches(said).count(), 1, "{text}");
    }
}

#[test]
fn wrong_data_are_named_before_training_starts() {
    let program = Program::new();
    program.write(
        "garbage.hdf5",
        b"\x89HDF\r\n\x1a\nnothing that makes sense follows",
    );
    program.write("empty.txt", "");
    program.write("one.txt", "a line\n");
    program.write("two.txt", "a line\nanother\n");
    program.write("latin1.txt", b"caf\xe9\n");
    let cases: [(&[&str], &[&str]); 5] = [
        (&["--data-file", "nowhere.hdf5"], &["nowhere.hdf5"]),
        (&["--data-file", "garbage.hdf5"], &["garbage.hdf5"]),
        (
            &["--src-train", "empty.txt", "--targ-train", "empty.txt"],
            &["empty.txt"],
        ),
        (
            &["--src-train", "one.txt", "--targ-train", "two.txt"],
            &["one.txt", "two.txt", "1", "2"],
        ),
        (
            &["--src-train", "latin1.txt", "--targ-train", "one.txt"],
            &["latin1.txt", "UTF-8", "line 1"],
        ),
    ];
    for (args, wanted) in cases {
        let args: Vec<&str> = std::iter::once("train")
            .chain(args.iter().copied())
            .collect();
        let error = program.fails(&args);
        for word in wanted {
            assert!(error.contains(word), "{args:?}: no {word:?} in\n{error}");
        }
    }
    assert!(!program.path("runs").exists(), "a run was made for nothing");
}

#[test]
fn a_run_goes_on_and_a_checkpoint_of_another_model_is_refused() {
    let program = Program::new();
    let mut args = vec!["train", "--run-dir", "run"];
    args.extend(TINY);
    program.ok(&args);
    let error = program.fails(&["train", "--resume", "run"]);
    assert!(
        error.contains("finished") && error.contains("--epochs"),
        "{error}"
    );
    let out = program.ok(&["train", "--resume", "run", "--epochs", "3", "-n", "3"]);
    assert!(out.contains("Epoch 3 is done"), "{out}");
    let error = program.fails(&["train", "--resume", "run", "--hidden-size", "8"]);
    assert!(
        error.contains("--hidden-size") && error.contains("--train-from"),
        "{error}"
    );

    let file = format!("run/{}", checkpoints(&program.path("run"))[0]);
    let mut args = vec![
        "train",
        "--train-from",
        &file,
        "--layer-type",
        "gru",
        "--run-dir",
        "other",
    ];
    args.extend(TINY);
    let error = program.fails(&args);
    assert!(error.contains("another model"), "{error}");
    assert!(
        !program.path("other").exists(),
        "a run was made for nothing"
    );
}

#[test]
fn a_configuration_file_is_taken_and_typed_options_win() {
    let program = Program::new();
    let mut args = vec!["train", "--run-dir", "run"];
    args.extend(TINY);
    program.ok(&args);
    let out = program.ok(&[
        "train",
        "--config",
        "run/config.toml",
        "--epochs",
        "1",
        "--run-dir",
        "again",
    ]);
    assert!(
        out.contains("Epoch 1 is done") && !out.contains("Epoch 2"),
        "{out}"
    );
    let again = fs::read_to_string(program.path("again/config.toml")).unwrap();
    assert!(
        again.contains("hidden_size = 16") && again.contains("epochs = 1"),
        "{again}"
    );
    program.write("bad.toml", "task = \"seq2seq\"\n[run]\nwrokers = 3\n");
    assert!(
        program
            .fails(&["train", "--config", "bad.toml"])
            .contains("wrokers")
    );
}

/// A hierarchical model starts from a flat one's weights, and word vectors from a file.
#[test]
fn a_flat_model_becomes_a_hierarchical_one() {
    let program = Program::new();
    let dialogue = lines(60, |n| format!("hello{} <t> fine{}", n % 3, n % 4));
    let answers = lines(60, |n| format!("yes{}", n % 4));
    for (name, text) in [("a", &dialogue), ("b", &answers)] {
        program.write(name, text);
    }
    let data = [
        "--src-train",
        "a",
        "--targ-train",
        "b",
        "--hidden-size",
        "8",
        "--word-vec-size",
        "6",
    ];
    let short = ["--num-layers", "1", "--epochs", "1", "-n", "1"];
    let train = |extra: &[&str]| -> Vec<String> {
        let all = ["train"].iter().chain(&data).chain(&short).chain(extra);
        all.map(ToString::to_string).collect()
    };
    let call = |extra: &[&str]| {
        let args = train(extra);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        program.call(&args)
    };
    assert!(call(&["--run-dir", "red"]).status.success());
    let file = format!("red/{}", checkpoints(&program.path("red"))[0]);
    let hred = call(&[
        "--run-dir",
        "hred",
        "--model-type",
        "hred",
        "--load-red",
        &file,
    ]);
    let (said, wrong) = words(&hred);
    assert!(hred.status.success(), "{said}\n{wrong}");
    let try_it = said.lines().find(|line| line.starts_with("Try it:"));
    assert!(
        try_it.is_some_and(|line| line.contains(" chat hred/")),
        "{said}"
    );
    let wrong = call(&["--run-dir", "no", "--load-red", &file]);
    assert!(
        words(&wrong).1.contains("--model-type hred"),
        "{:?}",
        words(&wrong)
    );
    let wrong = call(&["--run-dir", "no", "--pre-word-vecs", "nowhere.hdf5"]);
    assert!(
        words(&wrong).1.contains("nowhere.hdf5"),
        "{:?}",
        words(&wrong)
    );
}

/// A short training on two text files.
fn train_on(source: &str, target: &str, run: &str, more: &str) -> Vec<String> {
    let args = format!(
        "train --src-train {source} --targ-train {target} --src-val {source} --targ-val {target} --hidden-size 8 \
         --word-vec-size 6 --num-layers 1 --epochs 1 -n 1 --run-dir {run} {more}"
    );
    args.split_whitespace().map(str::to_owned).collect()
}

/// A checkpoint and the data must mean the same by each row of the model, or what has another meaning is told.
#[test]
fn words_that_differ_are_carried_over_by_word_or_refused() {
    let program = Program::new();
    let call = |args: Vec<String>| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        program.call(&args)
    };
    program.write("a", lines(60, |n| format!("w{} one", n % 7)));
    program.write("b", lines(60, |n| format!("v{} eins", n % 7)));
    let first = call(train_on("a", "b", "first", ""));
    assert!(first.status.success(), "{}", words_of(&first));
    let file = format!("first/{}", checkpoints(&program.path("first"))[0]);

    // Three words are new, four are as they were.
    program.write("c", lines(60, |n| format!("w{} two", 4 + n % 6)));
    let next = call(train_on("c", "b", "next", &format!("--train-from {file}")));
    assert!(next.status.success(), "{}", words_of(&next));
    let said = words(&next).0;
    // w4 w5 w6 and the four special tokens.
    let carried = "source vocabulary: 7 of 11 words are in the checkpoint and keep their rows";
    assert!(said.contains(carried), "{said}");
    assert!(!said.contains("target vocabulary:"), "{said}");
    let log = fs::read_to_string(program.path("next/log.txt")).unwrap();
    assert!(log.contains(carried), "{log}");

    let hred = format!("--model-type hred --end-utterance two --load-red {file}");
    let refused = call(train_on("c", "b", "no", &hred));
    let error = words_of(&refused);
    assert!(
        error.contains("--load-red")
            && error.contains("source vocabulary of 12 words there and 11 here"),
        "{error}"
    );
    assert!(!program.path("no").exists());

    program.write("dict", "<blank> 1\n<unk> 2\n<s> 3\n</s> 4\none 5\n");
    let text = lines(7, |n| format!("w{} {}", 6 - n, n + 6));
    let dict = fs::read_to_string(program.path("dict")).unwrap() + &text;
    program.write("dict", dict);
    let error = program.fails(&["translate", "first", "--src-dict", "dict", "w1 one"]);
    assert!(
        error.contains("its word 6 is `w6`, and `w0` in first/"),
        "{error}"
    );

    // The text was exchanged under the run.
    fs::copy(program.path("c"), program.path("a")).unwrap();
    let error = program.fails(&["eval", "first"]);
    assert!(
        error.contains("other words") && error.contains("`one` there and `two` here"),
        "{error}"
    );
    let error = program.fails(&["train", "--resume", "first", "--epochs", "2"]);
    for word in [
        "--src-train: the file has other contents",
        "--src-val: the file has other contents",
        "--train-from first/",
    ] {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert!(!error.contains("another model"), "{error}");
}

#[test]
fn a_run_goes_on_with_the_data_and_the_seed_that_it_was_made_from() {
    let program = Program::new();
    let mut args = vec!["train", "--run-dir", "run"];
    args.extend(TINY);
    program.ok(&args);
    let file = program.path("run/config.toml");
    let config = fs::read_to_string(&file).unwrap();
    let resume = ["train", "--resume", "run", "--epochs", "3"];
    for (now, differs) in [
        (
            config.replace("numbers = 400", "numbers = 800"),
            "--numbers: 400 then, 800 now",
        ),
        (
            config.replace("seed = 3435", "seed = 1"),
            "seed: 3435 then, 1 now",
        ),
    ] {
        assert_ne!(now, config);
        fs::write(&file, &now).unwrap();
        let error = program.fails(&resume);
        assert!(error.contains(differs), "{differs}: {error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), now);
    }
    fs::write(&file, config).unwrap();
    program.ok(&resume);
}

/// A run of version 0.1 said nothing of metrics: its perplexity and tokens are what they were, and it goes on.
#[test]
fn a_run_of_version_0_1_is_read_and_goes_on() {
    let program = Program::new();
    let run = program.path("run");
    fs::create_dir(&run).unwrap();
    for file in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/0.1")).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), run.join(file.file_name())).unwrap();
    }
    let said = program.ok(&["report", "run"]);
    let best = "Best validation perplexity 28.14 (epoch 2), last 28.14 (epoch 2); training 26.44";
    assert!(said.contains(best), "{said}");
    assert!(said.contains("736 tokens/s"), "{said}");
    let said = program.ok(&["runs", "run"]);
    assert!(said.contains("best perplexity"), "{said}");
    let said = program.ok(&["plot", "run"]);
    assert!(said.contains("perplexity-time.svg"), "{said}");
    let said = program.ok(&["eval", "run"]);
    assert!(said.contains("perplexity  28.1374"), "{said}");
    let said = program.ok(&["train", "--resume", "run", "--epochs", "3"]);
    assert!(said.contains("Epoch 3 is done: train ppl 26"), "{said}");
    assert!(said.contains("last 28.13 (epoch 3)"), "{said}");
}
