//! The examples learn.

use std::fs;
use std::process::Command;

use crate::program::{Program, root, skip};

fn with_example(test: &str, name: &str) -> Option<Program> {
    let program = Program::with(test, "torch")?;
    fs::copy(root().join("examples").join(name), program.path(name)).unwrap();
    Some(program)
}

/// The perplexities of a run's epochs, of training or validation.
fn perplexities(program: &Program, run: &str, which: &str) -> Vec<f64> {
    let code = format!(
        "import dsgd, math; print(*[math.exp(e['{which}']['loss']) for e in dsgd.Run('{run}').history()])"
    );
    let out = program.run_python(&code);
    out.split_whitespace().map(|x| x.parse().unwrap()).collect()
}

#[test]
fn a_language_model_learns_letters() {
    let Some(program) = with_example("a_language_model_learns_letters", "tiny_lm.py") else {
        return;
    };
    fs::copy(root().join("ARCHITECTURE.md"), program.path("text")).unwrap();
    program.ok(
        "train tiny_lm.py --text text -n 2 --threads 1 --epochs 2 --width 32 --plain --run-dir run",
    );
    let valid = perplexities(&program, "run", "valid");
    // Of 256 letters a few dozen occur.
    assert!(valid[1] < valid[0] && valid[1] < 30.0, "{valid:?}");
    // Tied: it is there once.
    let tensors = program.tensors("run");
    assert!(tensors.contains_key("letters.weight") && !tensors.contains_key("output.weight"));
}

#[test]
fn adapters_alone_are_trained_and_kept() {
    let test = "adapters_alone_are_trained_and_kept";
    let Some(program) = with_example(test, "lora.py") else {
        return;
    };
    let peft = Command::new(program.python())
        .args(["-c", "import peft, transformers"])
        .output();
    if !peft.is_ok_and(|peft| peft.status.success()) {
        return skip(test, "peft and transformers are not installed");
    }
    program.ok("train lora.py -n 2 --threads 1 --plain --run-dir run");
    let train = perplexities(&program, "run", "train");
    assert!(train.last() < train.first(), "{train:?}");
    let tensors = program.tensors("run");
    assert!(
        tensors.keys().all(|name| name.contains("lora_")),
        "{:?}",
        tensors.keys()
    );
    // They are taken by the model, by their names.
    let code = "
import sys; sys.path.insert(0, '.')
import dsgd, lora
model = lora.Tune().model()
dsgd.Run('run').load_into(model)
print(len(dsgd.load('run')) > 8)";
    assert_eq!(program.run_python(code), "True\n");
}

/// The demo's data, in small: what `dsgd data prepare` makes.
#[test]
fn the_demo_in_pytorch_takes_the_demos_checkpoints_and_the_other_way_round() {
    let test = "the_demo_in_pytorch_takes_the_demos_checkpoints_and_the_other_way_round";
    let Some(program) = with_example(test, "seq2seq.py") else {
        return;
    };
    let h5py = Command::new(program.python())
        .args(["-c", "import h5py"])
        .output();
    if !h5py.is_ok_and(|h5py| h5py.status.success()) {
        return skip(test, "h5py is not installed");
    }
    let nouns = ["house", "tree", "river", "road", "bird"];
    for (name, pairs) in [("train", 160), ("val", 40)] {
        let line =
            |i: usize, words: &str| format!("the {} {words} {}\n", nouns[i % 5], nouns[i / 5 % 5]);
        let text = |words: &str| (0..pairs).map(|i| line(i, words)).collect::<String>();
        program.write(&format!("src-{name}"), &text("sees a"));
        program.write(&format!("targ-{name}"), &text("is there to be seen by"));
    }
    program.ok(
        "data prepare --srcfile src-train --targetfile targ-train --srcvalfile src-val --targetvalfile targ-val \
         --outputfile demo",
    );
    let ours = "train --data-file demo-train.hdf5 --val-data-file demo-val.hdf5 --layer-type fast --hidden-size 20 --word-vec-size 20 \
                --num-layers 2 --dropout 0";
    let theirs = "train seq2seq.py --train demo-train.hdf5 --valid demo-val.hdf5 --hidden-size 20 --word-vec-size 20 --dropout 0";
    let common = "-n 1 --threads 1 --plain --learning-rate 0.1 --epochs 1";
    program.ok(&format!("{ours} {common} --run-dir ours"));
    program.ok(&format!("{theirs} {common} --run-dir theirs"));
    let names = |run: &str| program.tensors(run).into_keys().collect::<Vec<_>>();
    assert_eq!(names("ours"), names("theirs"));
    // Without training on, each says of the other's checkpoint what the other says.
    let still = "-n 1 --threads 1 --plain --epochs 1 --learning-rate 1e-30";
    for (from, program_words, run) in [("ours", theirs, "a"), ("theirs", ours, "b")] {
        let file = crate::program::last(&program.path(from));
        program.ok(&format!(
            "{program_words} {still} --train-from {} --run-dir {run}",
            file.display()
        ));
        let (then, now) = (
            perplexities(&program, from, "valid"),
            perplexities(&program, run, "valid"),
        );
        assert!(
            (then[0] - now[0]).abs() < 1e-4 * then[0],
            "{from}: {then:?} {now:?}"
        );
    }
}
