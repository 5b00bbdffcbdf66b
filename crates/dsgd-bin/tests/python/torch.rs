//! PyTorch models.

use crate::program::{ORDER, Program, root};

/// A small classifier with dropout; the picture's class is where it is brightest.
pub(crate) const MODEL: &str = r#"
import torch, torch.nn as nn, torch.nn.functional as F
import dsgd

class Data(torch.utils.data.Dataset):
    def __len__(self): return 96
    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        x = torch.rand(12, generator=g)
        return x, int(x.argmax()) % 4

class Net(dsgd.torch.Torch):
    batch_size = 16
    dropout: float = 0.0
    def model(self): return nn.Sequential(nn.Linear(12, 20), nn.Tanh(), nn.Dropout(self.dropout), nn.Linear(20, 4))
    def data(self): return Data(), Data()
    def loss(self, model, batch): return F.cross_entropy(model(batch[0]), batch[1])
    def group(self, name, p): return {"rate": 0.5 if name == "3.weight" else 1.0, "decay": p.dim() > 1}
"#;

/// The model, and its batches as a run had them, by themselves.
const PLAIN: &str = r"
import sys, torch
sys.path.insert(0, '.')
import dsgd, net
from torch import nn
torch.set_num_threads(1)
from order import key, permuted
def batches(run, seed):
    for event in dsgd.Run(run).events():
        if event['event'] == 'step':
            at, batch = key(seed, event['epoch']), event['parts'][0]['batches'][0]
            rows = [task.train_data[permuted(96, at, i)] for i in range(batch * 16, batch * 16 + 16)]
            yield torch.utils.data.default_collate(rows)
torch.manual_seed(3)
task = net.Net(); task.setup(); model = task.model()
model.train()
";

/// How far the tensors of the run `run` with seed 3 are from those of a plain loop with that optimizer.
fn from_a_plain_loop(program: &Program, optimizer: &str) -> f64 {
    let out = program.run_python(&format!(
        r"
{PLAIN}
optimizer = {optimizer}
for rows in batches('run', 3):
    optimizer.zero_grad()
    task.loss(model, rows).backward()
    optimizer.step()
{COMPARE}
"
    ));
    out.trim().parse().unwrap()
}

/// How far the run's tensors are from the loop's, as a share of the largest element; a model takes them by their names.
const COMPARE: &str = r"
ours = dsgd.Run('run').state_dict('last')
other = net.Net().model(); other.load_state_dict(ours, strict=False)
print(max(float((ours[name] - model.state_dict()[name]).abs().max() / model.state_dict()[name].abs().max()) for name in ours))
";

#[test]
fn one_worker_computes_what_a_plain_torch_loop_does() {
    let test = "one_worker_computes_what_a_plain_torch_loop_does";
    let Some(program) = Program::with(test, "torch") else {
        return;
    };
    program.write("net.py", MODEL);
    program.write("order.py", ORDER);
    for (optimizer, theirs) in [
        (
            "sgd --learning-rate 0.1",
            "torch.optim.SGD([{'params': [p], 'lr': .1 * task.group(n, p)['rate']} for n, p in model.named_parameters()])",
        ),
        (
            "adamw --learning-rate 0.01 --weight-decay 0.1",
            "torch.optim.AdamW([{'params': [p], 'weight_decay': .1 * (p.dim() > 1), 'lr': .01 * task.group(n, p)['rate']} \
                for n, p in model.named_parameters()])",
        ),
    ] {
        let _ = std::fs::remove_dir_all(program.path("run"));
        program.ok(&format!(
            "train net.py -n 1 --threads 1 --plain --seed 3 --lr-schedule constant --max-grad-norm 1e9 --epochs 4 --optimizer {optimizer} --run-dir run"
        ));
        let difference = from_a_plain_loop(&program, theirs);
        assert!(difference < 2e-6, "{optimizer}: {difference}");
    }
}

#[test]
fn running_means_of_batch_normalization_are_those_of_a_plain_loop() {
    let test = "running_means_of_batch_normalization_are_those_of_a_plain_loop";
    let Some(program) = Program::with(test, "torch") else {
        return;
    };
    let model = MODEL.replace("nn.Tanh()", "nn.BatchNorm1d(20), nn.Tanh()");
    program.write("net.py", &model);
    program.write("order.py", ORDER);
    let said = program.ok(
        "train net.py -n 1 --threads 1 --plain --seed 3 --lr-schedule constant --max-grad-norm 0.5 --epochs 3 --optimizer sgd \
         --learning-rate 0.1 --run-dir run",
    );
    // Workers do not share a batch whose examples depend on each other.
    assert!(said.contains("Starting 1 worker"), "{said}");
    let out = program.run_python(&format!(
        r"
{PLAIN}
optimizer = torch.optim.SGD([{{'params': [p], 'lr': .1 * task.group(n, p)['rate']}} for n, p in model.named_parameters()])
for rows in batches('run', 3):
    optimizer.zero_grad()
    task.loss(model, rows).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
{COMPARE}
print(sorted(ours)[2:4], model.state_dict()['1.running_mean'].abs().max().item() > 0.01)
"
    ));
    let mut lines = out.lines();
    let difference: f64 = lines.next().unwrap().parse().unwrap();
    assert!(difference < 2e-6, "{difference}");
    assert_eq!(lines.next().unwrap(), "['1.bias', '1.running_mean'] True");
    // Two workers, and workers that take steps of their own, bring what they have seen together.
    for mode in [
        "--mode sync",
        "--mode async",
        "--mode local --local-steps 2",
    ] {
        let run = mode.split(' ').nth(1).unwrap();
        program.ok(&format!(
            "train net.py -n 2 --threads 1 --plain --epochs 6 {mode} --run-dir {run}"
        ));
        let means = &program.tensors(run)["1.running_var"];
        assert!(
            means.iter().all(|&v| v > 0.0 && v < 1.0),
            "{mode}: {means:?}"
        );
        program.ok(&format!("eval {run}"));
    }
}

#[test]
fn what_is_tied_travels_once_what_is_frozen_not_at_all_and_sparse_rows_alone() {
    let test = "what_is_tied_travels_once_what_is_frozen_not_at_all_and_sparse_rows_alone";
    let Some(program) = Program::with(test, "torch") else {
        return;
    };
    program.write(
        "tied.py",
        r"
import torch, torch.nn as nn, torch.nn.functional as F
import dsgd
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(1000, 8, sparse=True)
        self.base = nn.Linear(8, 8)
        self.base.requires_grad_(False)
        self.up = nn.Linear(8, 6)
        self.down = nn.Linear(6, 8, bias=False)
        self.down.weight = nn.Parameter(self.up.weight.t().detach().clone())
        self.again = self.down
    def forward(self, i): return self.again(self.up(self.base(self.emb(i))))
class Tied(dsgd.torch.Torch):
    batch_size = 4
    def model(self): return Model()
    def data(self): return list(range(40)), None
    def loss(self, model, i): return model(i).square().mean()
",
    );
    let run = |name: &str, more: &str| {
        program.ok(&format!(
            "train tied.py -n 1 --threads 1 --plain --optimizer sgd --learning-rate {more} --epochs 1 --run-dir {name}"
        ));
        program.tensors(name)
    };
    let tensors = run("run", "0.1");
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    assert_eq!(names, ["down.weight", "emb.weight", "up.bias", "up.weight"]);
    let out = program.run_python(
        "
import sys; sys.path.insert(0, '.')
import dsgd, tied
dsgd.check(tied.Tied)
model = tied.Model(); dsgd.Run('run').load_into(model); print('loaded')",
    );
    // 4 rows of 8 with their numbers, two matrices of 48, a bias of 6.
    assert!(out.contains("8,102 parameters in 4 tensors"), "{out}");
    assert!(
        out.contains(&format!("{} bytes to push", 4 * (4 * 9 + 96 + 6))),
        "{out}"
    );
    assert!(out.ends_with("loaded\n"), "{out}");
    // Rows that no example has are as they were: those of a run whose learning rate is next to nothing.
    let before = run("still", "1e-30");
    let rows =
        |tensors: &std::collections::BTreeMap<String, Vec<f32>>| tensors["emb.weight"].clone();
    let (after, before) = (rows(&tensors), rows(&before));
    assert_eq!(after[40 * 8..], before[40 * 8..]);
    assert!((0..40).all(|row| after[row * 8..][..8] != before[row * 8..][..8]));
}

#[test]
fn a_batch_in_pieces_and_workers_that_share_it_compute_the_same() {
    let test = "a_batch_in_pieces_and_workers_that_share_it_compute_the_same";
    let Some(program) = Program::with(test, "torch") else {
        return;
    };
    program.write("net.py", MODEL);
    let run = |name: &str, more: &str| {
        program.ok(&format!(
            "train net.py --threads 1 --plain --optimizer sgd --learning-rate 0.1 --epochs 2 --run-dir {name} {more}"
        ));
        program.tensors(name)
    };
    let whole = run("whole", "-n 1");
    for (name, more) in [("pieces", "-n 1 --micro-batch 5"), ("shared", "-n 2")] {
        for (tensor, values) in run(name, more) {
            let pairs = values.iter().zip(&whole[&tensor]);
            let most = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(most < 1e-5, "{name}: {tensor} differs by {most}");
        }
    }
    let half = run("half", "-n 1 --precision bf16");
    let same = half.iter().all(|(tensor, values)| *values == whole[tensor]);
    assert!(!same, "bfloat16 rounds");
}

/// A worker's own optimizer: one worker is the plain loop, and several meet after each round.
#[test]
fn workers_take_steps_with_an_optimizer_of_torchs() {
    let test = "workers_take_steps_with_an_optimizer_of_torchs";
    let Some(program) = Program::with(test, "torch") else {
        return;
    };
    let own = "    def optimizer(self, model): return torch.optim.RMSprop(model.parameters(), lr=0.01, momentum=0.5)\n";
    program.write("net.py", &format!("{MODEL}{own}"));
    program.write("order.py", ORDER);
    let train = "train net.py --threads 1 --plain --epochs 3 --seed 3";
    let said = program.ok(&format!("{train} -n 1 --local-steps 1 --run-dir run"));
    assert!(said.contains("Starting 1 worker, local"), "{said}");
    let difference = from_a_plain_loop(&program, "task.optimizer(model)");
    assert!(difference < 2e-6, "{difference}");
    let said = program.ok(&format!("{train} -n 2 --local-steps 2 --run-dir two"));
    assert!(said.contains("Starting 2 workers, local"), "{said}");
    let losses = program
        .run_python("import dsgd; print([e['train']['loss'] for e in dsgd.Run('two').history()])");
    let losses: Vec<f64> = serde_json::from_str(losses.trim()).unwrap();
    assert!(losses[2] < losses[0], "{losses:?}");
}

/// Examples that are drawn at random, and a model that draws, too.
const LOADED: &str = r#"
import os, time, torch, torch.nn as nn, dsgd

def ahead():
    """Whether more is loaded than was asked for so far."""
    return os.path.getsize("loads") > 8 * os.path.getsize("computed")

class Data:
    def __len__(self): return 48
    def __getitem__(self, i):
        if os.path.exists("broken"): raise ValueError("no such picture")
        with open("loads", "a") as file: file.write(".")
        return torch.rand(4) + i

class Net(dsgd.torch.Torch):
    batch_size = 8
    patience: float = 0.0
    def model(self): return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    def data(self): return Data(), None
    def loss(self, model, batch):
        with open("computed", "a") as file: file.write(".")
        until = time.time() + self.patience
        while time.time() < until and not ahead(): time.sleep(0.01)
        if self.patience and ahead(): print("loaded meanwhile")
        return (model(batch) ** 2).mean() / 1000
"#;

#[test]
fn examples_are_loaded_beside_computing_and_are_the_same() {
    let test = "examples_are_loaded_beside_computing_and_are_the_same";
    let Some(program) = Program::with(test, "torch") else {
        return;
    };
    program.write("net.py", LOADED);
    let train = "train net.py --threads 1 --plain --optimizer sgd --learning-rate 0.1";
    let run = |name: &str, more: &str| {
        program.ok(&format!("{train} --epochs 2 --run-dir {name} {more}"));
        program.tensors(name)
    };
    let between = run("between", "-n 1");
    assert_eq!(run("beside", "-n 1 --loaders 2"), between);
    assert_eq!(run("parts", "-n 1 --loaders 1 --mode async"), between);
    let meanwhile = |more: &str| {
        for file in ["loads", "computed"] {
            std::fs::write(program.path(file), "").unwrap();
        }
        let said = program.ok(&format!("{train} -n 1 --epochs 1 {more}"));
        said.matches("loaded meanwhile").count()
    };
    assert_eq!(meanwhile("--loaders 0 --patience 0.1"), 0);
    // All but the epoch's first; the last one has no next.
    assert!(meanwhile("--loaders 1 --patience 5") >= 4);
    // What fails there is said with its place, and who loads for a child that is killed does not stay.
    program.write("broken", "");
    let said = program.fails(&format!("{train} -n 1 --loaders 1"));
    assert!(
        said.contains("ValueError: no such picture (net.py:11 in __getitem__)"),
        "{said}"
    );
}

#[test]
fn digits_are_learned() {
    let Some(program) = Program::with("digits_are_learned", "torch") else {
        return;
    };
    for file in ["digits.py", "digits_data.py"] {
        std::fs::copy(root().join("examples").join(file), program.path(file)).unwrap();
    }
    let said = program.ok("train digits.py -n 2 --plain --run-dir run");
    assert!(said.contains("Digits, in Python 3."), "{said}");
    let said = program.ok("eval run");
    let accuracy = said
        .lines()
        .find_map(|line| line.strip_prefix("accuracy"))
        .unwrap();
    let accuracy: f64 = accuracy.trim().trim_end_matches(" %").parse().unwrap();
    assert!(accuracy > 90.0, "{said}");
}

#[test]
fn what_torch_cannot_do_here_is_said() {
    let Some(program) = Program::with("what_torch_cannot_do_here_is_said", "torch") else {
        return;
    };
    let task = |model: &str, data: &str| {
        format!(
            "
import torch, torch.nn as nn
import dsgd
class T(dsgd.torch.Torch):
    def model(self): return {model}
    def data(self): return {data}
    def loss(self, model, x): return model(x).mean()
"
        )
    };
    let stream = "iter([]), None";
    let some = "torch.ones(64, 3), None";
    let frozen = "nn.Linear(3, 1).requires_grad_(False)";
    let line = "nn.Linear(3, 1)";
    let with = |field: &str| task(line, some) + "    " + field + "\n";
    let table = "nn.Embedding(9, 3, sparse=True)";
    for (text, expected) in [
        (task("nn.Linear(3, 1)", stream), "streams have no numbers"),
        (
            task(frozen, some),
            "no parameter of the model requires a gradient",
        ),
        (
            task("nn.Linear(4, 1)", some),
            "mat1 and mat2 shapes cannot be multiplied (32x3 and 4x1) (t.py:7 in loss)",
        ),
        (
            task("nn.Linear(3, 1)", "None, None"),
            "TypeError: object of type 'NoneType' has no len()",
        ),
        (with("loaders = -1"), "loaders is -1: 0 or more"),
        (with("micro_batch = 0"), "micro_batch is 0: 1 or more"),
        (
            task(table, some) + "    def optimizer(self, model): return None\n",
            "optimizer() changes whole tensors: let weight not be sparse",
        ),
    ] {
        program.write("t.py", &text);
        let error = program.fails("train t.py --plain");
        assert!(error.contains(expected), "{expected}\n{error}");
    }
}

#[test]
fn a_class_of_a_notebook_is_trained() {
    let test = "a_class_of_a_notebook_is_trained";
    let Some(program) = Program::with(test, "torch") else {
        return;
    };
    let has = std::process::Command::new(program.python())
        .args(["-c", "import cloudpickle"])
        .output();
    if !has.is_ok_and(|has| has.status.success()) {
        return crate::program::skip(test, "cloudpickle is not installed");
    }
    // What is typed at a prompt is in no file, as a notebook's cells are not.
    let code = format!(
        "{MODEL}
run = dsgd.train(Net, workers=2, epochs=2, dropout=0.1, optimizer='adam')
print(len(run.history()), sorted(run.state_dict())[0])
run = dsgd.train(Net, epochs=1, quiet=True)
print(run)"
    );
    let out = program.run_python(&code);
    assert!(out.contains("Task net-1: Net, in Python 3."), "{out}");
    assert!(
        out.contains("\n2 0.bias\n") && out.ends_with("Run('runs/net-2')\n"),
        "{out}"
    );
}

#[test]
fn a_compiled_model_has_the_names_of_the_one_inside() {
    let test = "a_compiled_model_has_the_names_of_the_one_inside";
    let Some(program) = Program::with(test, "torch") else {
        return;
    };
    program.write("net.py", MODEL);
    program.write(
        "compiled.py",
        "
import torch, net
class Compiled(net.Net):
    def model(self): return torch.compile(super().model())
",
    );
    let run = |script: &str| {
        program.ok(&format!(
            "train {script}.py -n 1 --threads 1 --plain --optimizer sgd --learning-rate 0.1 --epochs 2 --run-dir {script}"
        ));
        program.tensors(script)
    };
    let (plain, compiled) = (run("net"), run("compiled"));
    assert_eq!(
        plain.keys().collect::<Vec<_>>(),
        compiled.keys().collect::<Vec<_>>()
    );
    for (name, values) in plain {
        let most = values
            .iter()
            .zip(&compiled[&name])
            .map(|(a, b)| (a - b).abs());
        let most = most.fold(0.0, f32::max);
        assert!(most < 1e-5, "{name} differs by {most}");
    }
}
