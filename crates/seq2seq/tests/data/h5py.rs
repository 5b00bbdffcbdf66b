//! What we write, h5py reads, and the other way round. Skipped where Python or its packages are
//! not to be had; the virtual environment is kept in the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use seq2seq::batch::SentenceBatch;
use seq2seq::data::{Dataset, hdf5, numbers, numbers::NumbersOptions};
use serde_json::{Value, json};

use crate::{file, small};

/// A Python that has h5py, or why there is none.
fn python() -> Result<PathBuf, String> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("venv-h5py");
    let python = venv.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    let run =
        |program: &Path, arguments: &[&str]| match Command::new(program).args(arguments).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("{}: {error}", program.display())),
        };
    if run(&python, &["-c", "import h5py, numpy"]).is_err() {
        let name = if cfg!(windows) { "python" } else { "python3" };
        run(
            Path::new(name),
            &["-m", "venv", "--clear", &venv.to_string_lossy()],
        )?;
        run(
            &python,
            &[
                "-m",
                "pip",
                "--quiet",
                "--retries",
                "1",
                "install",
                "h5py",
                "numpy",
            ],
        )?;
    }
    Ok(python)
}

/// Runs one of the scripts beside this file and returns what it prints.
fn script(python: &Path, name: &str, argument: &Path) -> Vec<u8> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    let output = Command::new(python)
        .arg(script)
        .arg(argument)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// One test, so that the environment is made once.
#[test]
fn h5py_and_we_read_each_other() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            crate::skip("h5py_and_we_read_each_other", &why);
            return;
        }
    };
    let dir = tempfile::tempdir().unwrap();
    let numbers = NumbersOptions {
        train: 700,
        valid: 0,
        ..NumbersOptions::default()
    };
    let numbers = numbers::load(&numbers).unwrap().train;
    for (name, data, columns) in [("small", small(), 6), ("numbers", numbers, 52)] {
        let path = file(dir.path(), name, "");
        hdf5::write(&path, &data, columns).unwrap();
        let read: Value = serde_json::from_slice(&script(&python, "h5py_read.py", &path)).unwrap();
        assert_eq!(read["schema"], schema(&data, columns), "{name}");
        let batches: Vec<Value> = (0..data.len())
            .map(|index| as_json(&data.batch(index).unwrap()))
            .collect();
        assert_eq!(read["batches"], Value::from(batches), "{name}");
    }

    script(&python, "h5py_write.py", dir.path());
    for name in ["old.hdf5", "packed.hdf5"] {
        assert_eq!(
            hdf5::read(&dir.path().join(name)).unwrap(),
            small(),
            "{name}"
        );
    }
    for name in ["latest", "resizable"] {
        let path = dir.path().join(format!("{name}.hdf5"));
        let read = hdf5::read(&path).or_else(|error| {
            let command = error.to_string();
            let (_, command) = command.split_once('\n').expect("a command on its own line");
            rewrite(&python, command);
            hdf5::read(&path.with_extension("h5"))
        });
        assert_eq!(read.unwrap(), small(), "{name}");
    }
}

/// Runs a command that was proposed, as the shell of a person who has h5py would.
fn rewrite(python: &Path, command: &str) {
    let command = command.replacen("python3", "\"$0\"", 1);
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", &command]).arg(python).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn schema(data: &Dataset, columns: usize) -> Value {
    let (rows, batches) = (data.sentences().len(), data.len());
    let table = json!(["int64", [rows, columns]]);
    let (list, one) = (json!(["int64", [batches]]), json!(["int64", [1]]));
    json!({
        "source": table, "target": table, "target_output": table,
        "target_l_all": ["int64", [rows]],
        "batch_idx": list, "batch_l": list, "batch_w": list,
        "target_l": list, "target_nonzeros": list,
        "source_size": one, "target_size": one,
    })
}

fn as_json(batch: &SentenceBatch) -> Value {
    json!({ "source": batch.sources[0], "target": batch.target, "target_output": batch.gold })
}
