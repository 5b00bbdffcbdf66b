//! Tasks without a framework.

use std::fs;

use crate::program::{ORDER, Program, package, root, said, tensors};

/// A line through points, whose gradient needs no library of ours; it notes which examples it was given.
const LINE: &str = r#"
import numpy as np, dsgd

class Line(dsgd.Task):
    batch_size = 10
    slope: float = 3.0

    def setup(self):
        self.x = np.linspace(-1, 1, 105, dtype="f4")
        self.y = self.slope * self.x - 2

    def tensors(self): return {"slope": np.zeros(1), "intercept": np.zeros(1)}
    def examples(self): return len(self.x)
    def validation_examples(self): return 25

    def gradient(self, p, batch, g):
        i = batch.examples
        error = p["slope"] * self.x[i] + p["intercept"] - self.y[i]
        g["slope"] += 2 * np.mean(error * self.x[i])
        g["intercept"] += 2 * np.mean(error)
        return dsgd.Loss(np.mean(error ** 2), accuracy=np.mean(np.abs(error) < 0.1))

    def evaluate(self, p, batch):
        i = batch.examples
        return dsgd.Loss(np.mean((p["slope"] * self.x[i] + p["intercept"] - self.y[i]) ** 2), accuracy=1)
"#;

const TRAIN: &str =
    "train line.py --plain --optimizer sgd --learning-rate 0.1 --lr-schedule constant --seed 7";

#[test]
fn one_worker_computes_what_a_plain_loop_does() {
    let Some(program) = Program::with("one_worker_computes_what_a_plain_loop_does", "numpy") else {
        return;
    };
    program.write("line.py", LINE);
    program.write("order.py", ORDER);
    program.ok(&format!("{TRAIN} -n 1 --epochs 2 --run-dir run"));
    let ours = program.tensors("run");
    // Which batch comes when is the run's own; its events have it.
    let order: Vec<(u64, u64)> = fs::read_to_string(program.path("run/events.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["event"] == "step")
        .map(|event| {
            let batch = &event["parts"][0]["batches"][0];
            (event["epoch"].as_u64().unwrap(), batch.as_u64().unwrap())
        })
        .collect();
    assert_eq!(order.len(), 22);
    let order: Vec<String> = order.iter().map(|(e, b)| format!("({e},{b})")).collect();
    let plain = program.run_python(&format!(
        r#"
import numpy as np
from order import key, permuted
x = np.linspace(-1, 1, 105, dtype="f4"); y = np.float32(3.0) * x - np.float32(2)
a = b = np.float32(0)
for epoch, batch in [{}]:
    i = [permuted(105, key(7, epoch), i) for i in range(batch * 10, min(105, batch * 10 + 10))]
    error = a * x[i] + b - y[i]
    a, b = a - np.float32(.1) * np.float32(2 * np.mean(error * x[i])), b - np.float32(.1) * np.float32(2 * np.mean(error))
print(float(a), float(b))
"#,
        order.join(",")
    ));
    let plain: Vec<f32> = plain
        .split_whitespace()
        .map(|x| x.parse().unwrap())
        .collect();
    for (ours, plain) in [
        (ours["slope"][0], plain[0]),
        (ours["intercept"][0], plain[1]),
    ] {
        assert!((ours - plain).abs() < 1e-5 * plain.abs(), "{ours} {plain}");
    }
    assert!((ours["slope"][0] - 3.0).abs() < 1.0, "it learns");
}

#[test]
fn the_same_run_gives_the_same_bytes_and_goes_on_as_if_it_had_not_been_stopped() {
    let test = "the_same_run_gives_the_same_bytes_and_goes_on_as_if_it_had_not_been_stopped";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    program.write("line.py", LINE);
    for run in ["a", "b"] {
        program.ok(&format!(
            "{TRAIN} -n 2 --mode sync --epochs 4 --run-dir {run}"
        ));
    }
    program.ok(&format!("{TRAIN} -n 2 --mode sync --epochs 2 --run-dir c"));
    program.ok("train --resume c --epochs 4 --plain");
    let whole = program.tensors("a");
    assert_eq!(whole, program.tensors("b"));
    assert_eq!(whole, program.tensors("c"));
    // Two workers share each batch; one computes all of it.
    program.ok(&format!("{TRAIN} -n 2 --mode split --epochs 2 --run-dir d"));
    program.ok(&format!("{TRAIN} -n 1 --epochs 2 --run-dir e"));
    let (split, one) = (program.tensors("d"), program.tensors("e"));
    for (name, values) in split {
        assert!((values[0] - one[&name][0]).abs() < 1e-5, "{name}");
    }
}

#[test]
fn an_annotated_attribute_is_an_option_and_a_metric_has_its_curve() {
    let test = "an_annotated_attribute_is_an_option_and_a_metric_has_its_curve";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    program.write("line.py", LINE);
    program.ok(&format!(
        "{TRAIN} -n 1 --epochs 40 --slope -1.5 --batch-size 35 --run-dir run"
    ));
    let found = program.tensors("run")["slope"][0];
    assert!((found + 1.5).abs() < 0.05, "{found}");
    let config = fs::read_to_string(program.path("run/config.toml")).unwrap();
    assert!(
        config.contains(r#"set = ["slope=-1.5", "batch_size=35"]"#),
        "{config}"
    );
    let history = program.run_python("import dsgd; print(dsgd.Run('run').history()[-1])");
    for words in [
        "'epoch': 40",
        "'train': {'loss': ",
        "'accuracy': 1.0",
        "'valid': {'loss': ",
    ] {
        assert!(history.contains(words), "{words}: {history}");
    }
    let evaluated = program.ok("eval run");
    assert!(evaluated.contains("accuracy    100.0000 %"), "{evaluated}");
    let loaded = program.run_python(
        "import dsgd; print(sorted(dsgd.load('run')), dsgd.Run('run').checkpoint().name[:4])",
    );
    assert_eq!(loaded.trim(), "['intercept', 'slope'] line");
}

#[test]
fn rows_of_a_table_are_sent_and_kept_alone() {
    let Some(program) = Program::with("rows_of_a_table_are_sent_and_kept_alone", "numpy") else {
        return;
    };
    let table = r#"
import numpy as np, dsgd
class Table(dsgd.Task):
    batch_size = 2
    rows = ["emb"]
    def tensors(self): return {"bias": np.zeros(3), "emb": np.zeros((52, 4))}
    def examples(self): return 52
    def gradient(self, p, batch, g):
        for i in batch.examples:
            g["emb"][i] += p["emb"][i] - i
        g["bias"] += 1
        return float(np.mean([(p["emb"][i] - i) ** 2 for i in batch.examples]))
"#;
    program.write("table.py", table);
    program.ok("train table.py -n 2 --mode sync --plain --optimizer sgd --learning-rate 1 --lr-schedule constant --max-grad-norm 1e9 --epochs 2 --run-dir run");
    let found = program.tensors("run");
    // Every row has gone half-way in each of its two steps, the mean of two workers' gradients.
    let expected: Vec<f32> = (0..52).flat_map(|i| [0.75 * i as f32; 4]).collect();
    assert_eq!(found["emb"], expected);
    assert_eq!(found["bias"], [-26.0; 3]);
}

#[test]
fn a_script_is_a_program_and_a_class_can_be_trained_from_python() {
    let test = "a_script_is_a_program_and_a_class_can_be_trained_from_python";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    fs::copy(root().join("examples/line.py"), program.path("line.py")).unwrap();
    let script = |words: &str| {
        let output = std::process::Command::new(program.python())
            .arg("line.py")
            .args(words.split(' '))
            .current_dir(program.path(""))
            .env("PYTHONPATH", package())
            .env("DSGD_PROGRAM", env!("CARGO_BIN_EXE_dsgd"))
            .env("XDG_CACHE_HOME", program.path("cache"))
            .output()
            .unwrap();
        let (out, err) = said(&output);
        assert!(output.status.success(), "{out}\n{err}");
        out
    };
    let out = script("train -n 2 --plain --run-dir mine");
    assert!(out.contains("Task line: Line, in Python 3."), "{out}");
    assert!(out.contains("Run finished after 300 steps"), "{out}");
    script("train --resume mine --epochs 4 --plain");
    assert!(script("eval mine").contains("loss        0.0000"));
    let code = "
import dsgd, line
run = dsgd.train(line.Line, workers=2, epochs=1, quiet=True)
print(run, len(run.history()), float(run.state_dict()['slope'][0]))
dsgd.check(line.Line)";
    let out = program.run_python(code);
    assert!(out.contains("Run('runs/line-1') 1 2.9"), "{out}");
    assert!(
        out.contains("Line: 2 parameters in 2 tensors, 1,000 examples"),
        "{out}"
    );
    assert!(out.contains("gradient norm"), "{out}");
    assert!(tensors(&crate::program::last(&program.path("runs/line-1")))["slope"][0] > 2.9);
}

/// A script in a home folder, below which Python and its libraries lie.
#[test]
fn what_belongs_to_python_is_no_part_of_a_script() {
    let test = "what_belongs_to_python_is_no_part_of_a_script";
    let Some(program) = Program::with(test, "numpy") else {
        return;
    };
    program.write("mine/parts.py", "");
    let out = program.run_python(
        "
import sys; sys.path.insert(0, 'mine')
import numpy, parts
from dsgd import child
from pathlib import Path
print(*[Path(name).name for name in child.own_modules(Path('/'))], *child.needs(Path('/')))",
    );
    assert_eq!(out, "parts.py\n");
}
