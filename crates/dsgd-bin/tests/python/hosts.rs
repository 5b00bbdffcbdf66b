//! Models in Python on hosts on which nothing was installed for it.

use std::fs;
use std::path::Path;
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
    // The rehearsal: a login of this machine's name.
    let config = fs::read_to_string(&ssh).unwrap();
    let config = program.write(
        "ssh_config",
        &config.replacen("Host h1", "Host localhost", 1),
    );
    let rehearsal = format!("--localhost -n 2 --ssh-config {}", config.display());
    program.ok(&format!("{train} {rehearsal} --run-dir rehearsed"));
    assert_eq!(here, program.tensors("rehearsed"));
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
    assert!(said.contains("has no only_here: --env requirements.txt makes an environment there; or install what is missing"), "{said}");
    // The host list names another Python for this host.
    program.write("hosts", "h1 slots=1 python=/nowhere/python3\n");
    let by_list = elsewhere.replace("-H h1:1", "--hosts hosts");
    let words = format!("train spread.py --plain --epochs 1 {by_list}");
    let mut command = program.command(&words);
    let command = command.env("PYTHONPATH", program.path("site-packages"));
    let (said, _) = crate::program::said(&command.output().unwrap());
    assert!(
        said.contains("there is no /nowhere/python3: --env"),
        "{said}"
    );
    // Of a file that is named and is nowhere it is said here.
    fs::remove_file(program.path("points.txt")).unwrap();
    assert!(fails("").contains("points.txt"));
}

/// On a host that has nothing of what the script imports, from files that travel: uv, and the wheels.
#[test]
fn an_environment_is_made_on_a_host_once() {
    let test = "an_environment_is_made_on_a_host_once";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    let Some(lab) = lab(test, 1) else {
        return;
    };
    let python = std::env::var("DSGD_TORCH_PYTHON").unwrap_or_default();
    let environment = Path::new(&python)
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new(""));
    let (wheels, uv) = (environment.join("wheels"), environment.join("bin/uv"));
    if !wheels.is_dir() || !uv.is_file() {
        skip(
            test,
            "there is no uv, and no wheel of numpy, beside DSGD_TORCH_PYTHON",
        );
        return;
    }
    write(&program);
    program.write(
        "settings.py",
        "import numpy\nprint('numpy is', numpy.__file__)\nBATCH = 8\n",
    );
    program.write("requirements.txt", "numpy\n");
    let run = |more: &str| {
        let words = format!(
            "train spread.py --plain --epochs 1 --remote -H h1:1 --ssh-config {} --env requirements.txt --wheels {} {more}",
            lab.file("ssh_config").display(),
            wheels.display()
        );
        let output = program
            .command(&words)
            .env("PATH", path_with(&uv))
            .output()
            .unwrap();
        let (out, err) = crate::program::said(&output);
        (output.status.success(), out + &err)
    };
    let (well, said) = run("");
    assert!(well, "{said}");
    assert!(
        said.contains("h1: makes a Python environment from requirements.txt"),
        "{said}"
    );
    let own = said.lines().find(|line| line.starts_with("h1: numpy is "));
    assert!(
        own.is_some_and(|line| line.contains("/.cache/dsgd/envs/")),
        "{said}"
    );
    let (well, said) = run("");
    assert!(
        well && !said.contains("makes a Python environment"),
        "{said}"
    );
    // What the file does not name is not there, and what is named and is no wheel cannot be installed.
    program.write("requirements.txt", "\n");
    let (well, said) = run("");
    assert!(!well && said.contains("has no numpy"), "{said}");
    program.write("requirements.txt", "numpy\nnosuch-package\n");
    let (well, said) = run("");
    assert!(
        !well && said.contains("h1: no worker can work there"),
        "{said}"
    );
    assert!(
        said.contains("uv pip install") && said.contains("nosuch-package"),
        "{said}"
    );
}

fn path_with(program: &Path) -> std::ffi::OsString {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let folder = program.parent().map(Path::to_path_buf);
    std::env::join_paths(folder.into_iter().chain(std::env::split_paths(&old))).unwrap()
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
        "train {name} --remote -H h1,h2 --ssh-config {} --plain --epochs 1000 --run-dir run",
        ssh.display()
    );
    let mut run = program.begin(&words);
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
