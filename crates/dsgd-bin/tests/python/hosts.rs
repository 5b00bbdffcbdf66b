//! Models in Python on hosts on which nothing was installed for it.

use std::fs;
use std::process::Command;

use crate::failures::{kill, pids, script, wait};
use crate::lab::Lab;
use crate::program::{Program, skip};

/// A task in several files, with a file of data, and something random.
const TASK: &str = r#"
from pathlib import Path
import numpy as np, dsgd
from parts.model import gradient
import settings

class Spread(dsgd.Task):
    batch_size = settings.BATCH
    points: Path = Path("points.txt")
    def setup(self): self.y = np.loadtxt(self.points, dtype="f4")
    def tensors(self): return {"mean": np.zeros(4)}
    def examples(self): return len(self.y)
    def validation_examples(self): return 8
    def gradient(self, p, batch, g): return gradient(self.y, p, batch, g)
    def evaluate(self, p, batch): return float(np.mean((p["mean"] - self.y[batch.examples, None]) ** 2))
"#;

const MODEL: &str = r#"
import numpy as np
def gradient(y, p, batch, g):
    noise = np.random.rand(4).astype("f4")
    e = p["mean"] - y[batch.examples, None] + noise
    g["mean"] += 2 * e.mean(axis=0)
    return float(np.mean(e ** 2))
"#;

fn lab(test: &str, hosts: usize) -> Option<Lab> {
    let lab = Lab::up(hosts);
    if lab.is_none() {
        skip(test, "no hosts can be made here");
    }
    lab
}

fn write(program: &Program) {
    program.write("spread.py", TASK);
    program.write("settings.py", "BATCH = 8\n");
    program.write("parts/__init__.py", "");
    program.write("parts/model.py", MODEL);
    let points: Vec<String> = (0..64).map(|i| (i % 9).to_string()).collect();
    program.write("points.txt", &points.join("\n"));
}

#[test]
fn hosts_compute_what_is_computed_here_to_the_byte() {
    let test = "hosts_compute_what_is_computed_here_to_the_byte";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    let Some(lab) = lab(test, 2) else {
        return;
    };
    write(&program);
    let train =
        "train spread.py --mode sync --plain --optimizer sgd --learning-rate 0.1 --epochs 3";
    let ssh = lab.file("ssh_config");
    let elsewhere = format!("--remote -H h1:1,h2:1 --ssh-config {}", ssh.display());
    program.ok(&format!("{train} -n 2 --run-dir here"));
    program.ok(&format!("{train} {elsewhere} --run-dir there"));
    let here = program.tensors("here");
    assert_eq!(here, program.tensors("there"));
    // The way in which hosts train by themselves.
    let said = program.ok(&format!(
        "train spread.py --plain --optimizer sgd --epochs 3 {elsewhere} --run-dir local"
    ));
    assert!(said.contains("Starting 2 workers, local"), "{said}");
    // What was sent is there; what was edited since is sent anew.
    let edited = MODEL.replace("np.random.rand(4)", "np.zeros(4)");
    program.write("parts/model.py", &edited);
    program.ok(&format!("{train} -n 2 --run-dir here2"));
    program.ok(&format!("{train} {elsewhere} --run-dir there2"));
    assert_ne!(here, program.tensors("here2"));
    assert_eq!(program.tensors("here2"), program.tensors("there2"));
}

#[test]
fn what_a_host_lacks_is_named() {
    let test = "what_a_host_lacks_is_named";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    let Some(lab) = lab(test, 1) else {
        return;
    };
    write(&program);
    // Installed here alone.
    program.write("site-packages/only_here/__init__.py", "");
    program.write("settings.py", "import only_here\nBATCH = 8\n");
    let elsewhere = format!(
        "--remote -H h1:1 --ssh-config {}",
        lab.file("ssh_config").display()
    );
    let fails = |more: &str| {
        let words = format!("train spread.py --plain --epochs 1 {elsewhere} {more}");
        let mut command = program.command(&words);
        let output = command
            .env("PYTHONPATH", program.path("site-packages"))
            .output()
            .unwrap();
        let (out, err) = crate::program::said(&output);
        assert!(!output.status.success(), "{out}\n{err}");
        out + &err
    };
    let said = fails("");
    assert!(said.contains("h1: no worker can work there"), "{said}");
    assert!(said.contains("has no only_here: install what is missing on this host, or name another Python there by --python PATH"), "{said}");
    // Of a file that is named and is nowhere it is said here.
    fs::remove_file(program.path("points.txt")).unwrap();
    assert!(fails("").contains("points.txt"));
}

#[test]
fn a_worker_on_a_host_has_one_child_and_takes_it_along() {
    let test = "a_worker_on_a_host_has_one_child_and_takes_it_along";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    let Some(lab) = lab(test, 2) else {
        return;
    };
    let name = format!("elsewhere_{}.py", std::process::id());
    program.write(
        &name,
        &script("time.sleep(0.1); print('from', os.uname().nodename)"),
    );
    let ssh = lab.file("ssh_config");
    let words = format!(
        "train {name} --remote -H h1:1,h2:1 --ssh-config {} --plain --epochs 1000 --run-dir run",
        ssh.display()
    );
    let said = fs::File::create(program.path("said")).unwrap();
    let mut command = program.command(&words);
    let mut run = command
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .spawn()
        .unwrap();
    let read = |file: &str| fs::read_to_string(program.path(file)).unwrap_or_default();
    wait(
        || read("run/events.jsonl").matches("\"step\"").count() > 4,
        "steps",
    );
    // None here, though one was asked what the task is; none for what the workers began with.
    let children = || pids(&format!("dsgd.child {name}"));
    assert_eq!(children().len(), 2, "{}", read("said"));
    wait(
        || read("said").contains("h1: from h1") && read("said").contains("h2: from h2"),
        "what they print",
    );
    // The one of a worker that is killed does not outlive it.
    let before = children();
    kill("KILL", parent(before[0]));
    wait(
        || children().iter().filter(|pid| before.contains(pid)).count() < 2,
        "its child is gone",
    );
    wait(|| children().len() == 2, "it has another");
    kill("INT", run.id());
    run.wait().unwrap();
    wait(|| children().is_empty(), "nobody is left");
}

fn parent(pid: u32) -> u32 {
    let pid = pid.to_string();
    let output = Command::new("ps")
        .args(["-o", "ppid=", "-p", &pid])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .unwrap()
}
