//! The program and bare hosts: how long it takes from nothing to the first update, and whether the demo computes
//! there, from its own data in each form, what it computes here.

#![allow(clippy::unwrap_used)]

#[path = "support/lab.rs"]
mod lab;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::Lab;

/// From the call of the program to the first update, on hosts that have never seen it.
const MOST: Duration = Duration::from_secs(15);

/// From Ctrl-C to the end: workers that are only just starting are let go as the others are.
const MOST_FAREWELL: Duration = Duration::from_secs(4);

/// A run that ends with the test.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let _ = Command::new("kill").args(["-s", "INT", &pid]).status();
        let _ = self.0.wait();
    }
}

/// Number words, on three hosts with two workers each.
#[test]
fn three_bare_hosts_make_their_first_update_in_fifteen_seconds() {
    let Some(lab) = Lab::up(3) else {
        let mut stderr = io::stderr();
        let name = "three_bare_hosts_make_their_first_update_in_fifteen_seconds";
        writeln!(stderr, "SKIPPED {name}: no hosts can be made here").unwrap();
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    fs::copy(lab.file("hostfile"), folder.path().join("client_list.txt")).unwrap();
    let log = fs::File::create(folder.path().join("said")).unwrap();
    let started = Instant::now();
    let child = Command::new(env!("CARGO_BIN_EXE_dsgd"))
        .args([
            "train",
            "--remote",
            "-n",
            "6",
            "--run-dir",
            "run",
            "--ssh-config",
        ])
        .arg(lab.file("ssh_config"))
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let run = Run(child);
    let events = folder.path().join("run/events.jsonl");
    let first = loop {
        let text = fs::read_to_string(&events).unwrap_or_default();
        if text.contains("\"event\":\"step\"") {
            break started.elapsed();
        }
        let said = fs::read_to_string(folder.path().join("said")).unwrap();
        assert!(started.elapsed() < 4 * MOST, "no update: {said}");
        sleep(Duration::from_millis(5));
    };
    let interrupted = Instant::now();
    drop(run);
    let farewell = interrupted.elapsed();
    let secs = first.as_secs_f64();
    let mut stderr = io::stderr();
    let words = "MEASURED three bare hosts: first update";
    writeln!(stderr, "{words} {secs:.2} s after the call").unwrap();
    assert!(first < MOST, "{first:?}");
    assert!(farewell < MOST_FAREWELL, "{farewell:?}");
}

/// Text of the demo's kind, prepared too, with word vectors of its own.
fn data(folder: &Path) {
    let nouns = ["house", "tree", "river", "road", "bird", "stone", "lamp"];
    let verbs = ["sees", "finds", "likes", "takes"];
    for (name, pairs) in [("train", 120), ("val", 24)] {
        let file = |side: &str| fs::File::create(folder.join(format!("{side}-{name}.txt")));
        let (mut source, mut target) = (file("src").unwrap(), file("targ").unwrap());
        for i in 0..pairs {
            let (a, v, b) = (nouns[i % 7], verbs[i / 7 % 4], nouns[(i * 3 + 1) % 7]);
            writeln!(source, "the {a} {v} the {b}").unwrap();
            writeln!(target, "la {b} est {v} par la {a}").unwrap();
        }
    }
    dsgd(
        folder,
        "data prepare --srcfile src-train.txt --targetfile targ-train.txt --srcvalfile src-val.txt \
                  --targetvalfile targ-val.txt --outputfile demo",
    );
    let gzip = Command::new("gzip")
        .args([
            "-k",
            "src-train.txt",
            "targ-train.txt",
            "src-val.txt",
            "targ-val.txt",
        ])
        .current_dir(folder)
        .status();
    assert!(gzip.unwrap().success());
}

/// Vectors of eight numbers for the first six words of the source.
fn vectors(file: &Path) {
    let mut builder = hdf5_pure::FileBuilder::new();
    let values: Vec<f64> = (0..48u8).map(|i| f64::from(i) / 100.0).collect();
    let dataset = builder.create_dataset("word_vecs");
    dataset.with_f64_data(&values).with_shape(&[6, 8]);
    fs::write(file, builder.finish().unwrap()).unwrap();
}

/// What the program says as it ends well.
fn dsgd(folder: &Path, args: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dsgd"));
    command.args(args.split_whitespace()).current_dir(folder);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{args}: {out}\n{err}");
    out
}

/// The weights that a run ended with.
fn weights(run: &Path) -> Vec<u8> {
    let files = fs::read_dir(run).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    fs::read(files.last().expect("a checkpoint")).unwrap()
}

/// The demo's model with its own data, on hosts that have nothing of it, in each form that it reads.
#[test]
fn the_demo_computes_on_three_bare_hosts_what_it_computes_here() {
    let Some(lab) = Lab::up(3) else {
        let mut stderr = io::stderr();
        let name = "the_demo_computes_on_three_bare_hosts_what_it_computes_here";
        writeln!(stderr, "SKIPPED {name}: no hosts can be made here").unwrap();
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    vectors(&folder.join("vectors.hdf5"));
    let small = "--layer-type fast --num-layers 1 --hidden-size 8 --word-vec-size 8 --dropout 0.1 \
                 --batch-size 8 --epochs 1 --mode sync --threads 1 --plain";
    let config = lab.file("ssh_config");
    let hosts = format!(
        "--remote -H h1:1,h2:1,h3:1 --ssh-config {}",
        config.display()
    );
    let text = "--src-train src-train.txt --targ-train targ-train.txt --src-val src-val.txt --targ-val targ-val.txt";
    let packed = text.replace(".txt", ".txt.gz");
    let prepared = "--data-file demo-train.hdf5 --val-data-file demo-val.hdf5";
    let vectors = format!("{prepared} --pre-word-vecs vectors.hdf5");
    let mut red = String::new();
    for (name, form) in [
        ("hdf5", prepared),
        ("text", text),
        ("vectors", &vectors),
        ("gzip", &packed),
    ] {
        dsgd(
            folder,
            &format!("train -n 3 {small} {form} --run-dir {name}-here"),
        );
        dsgd(
            folder,
            &format!("train {hosts} {small} {form} --run-dir {name}-there"),
        );
        let [here, there] =
            ["here", "there"].map(|at| weights(&folder.join(format!("{name}-{at}"))));
        assert!(here == there, "{name}: not the same bytes");
        red = format!("{name}-here");
    }
    // Dialogue: it looks the end of an utterance up in the dictionary beside the data, and starts from a red
    // model, a file as well.
    let red = fs::read_dir(folder.join(red))
        .unwrap()
        .map(|file| file.unwrap().path());
    let red = red
        .into_iter()
        .find(|file| file.extension().is_some_and(|e| e == "safetensors"));
    let hred = format!(
        "--model-type hred --end-utterance the --load-red {}",
        red.unwrap().display()
    );
    for at in ["-n 3", &hosts] {
        let run = if at.starts_with("-n") {
            "hred-here"
        } else {
            "hred-there"
        };
        dsgd(
            folder,
            &format!("train {at} {small} {prepared} {hred} --run-dir {run}"),
        );
    }
    assert!(
        weights(&folder.join("hred-here")) == weights(&folder.join("hred-there")),
        "hred: not the same bytes"
    );
}

/// Who joins by hand from another folder finds the data that the server's command line named from its own.
#[test]
fn who_joins_by_hand_finds_the_demos_data() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    data(folder);
    let args = "train -n 0 --listen 127.0.0.1:0 --data-file demo-train.hdf5 --val-data-file demo-val.hdf5 \
                --layer-type fast --num-layers 1 --hidden-size 8 --word-vec-size 8 --epochs 1 --plain --run-dir run";
    let mut server = Command::new(env!("CARGO_BIN_EXE_dsgd"))
        .args(args.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map(Run)
        .unwrap();
    let invitation = folder.join("run/invitation");
    let started = Instant::now();
    while !invitation.exists() {
        assert!(started.elapsed() < 4 * MOST, "no invitation");
        sleep(Duration::from_millis(5));
    }
    let elsewhere = tempfile::tempdir().unwrap();
    let joined = Command::new(env!("CARGO_BIN_EXE_dsgd"))
        .args(["worker", "-n", "2"])
        .current_dir(elsewhere.path())
        .stdin(fs::File::open(&invitation).unwrap())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&joined.stderr);
    assert!(joined.status.success(), "{said}");
    assert!(server.0.wait().unwrap().success());
    assert!(!weights(&folder.join("run")).is_empty());
}
