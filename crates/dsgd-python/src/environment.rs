//! A Python environment that is made on a host from a file of requirements, once for each content, by uv
//! (<https://docs.astral.sh/uv>), which travels there like a file of data.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, io};

use ring::digest::{Context, SHA256};

use dsgd::{DataFile, TaskResult};

use crate::interpreter;
use crate::package;

/// Lines of uv's that an error repeats.
const SHOWN: usize = 6;

/// What an environment is made from.
pub(crate) struct Wanted<'a> {
    /// `requirements.txt` or `pyproject.toml`.
    pub(crate) requirements: &'a Path,
    /// The only packages that there are, if any are named; else they come from an index.
    pub(crate) wheels: &'a [DataFile],
    /// The uv that was sent.
    pub(crate) uv: Option<&'a Path>,
}

/// What of a file of requirements can travel: itself, or for a `uv.lock` what it locks.
///
/// # Errors
/// When it is no such file, or names other files.
pub(crate) fn requirements(file: &Path, python: &str) -> TaskResult<PathBuf> {
    let shown = file.display();
    let text = fs::read_to_string(file).map_err(|error| format!("--env {shown}: {error}"))?;
    match file.extension().and_then(OsStr::to_str) {
        _ if file.file_name() == Some("uv.lock".as_ref()) => exported(file, python),
        Some("toml") => Ok(file.to_owned()),
        Some("txt") => match text.lines().zip(1..).find(|(line, _)| is_local(line)) {
            None => Ok(file.to_owned()),
            Some((line, number)) => Err(format!(
                "--env {shown}:{number}: {} names a file of this machine, which does not travel: write what it stands for",
                line.trim()
            )
            .into()),
        },
        _ => Err(format!(
            "--env {shown}: expected a requirements.txt, a pyproject.toml or a uv.lock"
        )
        .into()),
    }
}

/// Whether a line of requirements names another file, or a folder.
fn is_local(line: &str) -> bool {
    let options = [
        "-r",
        "-c",
        "-e",
        "--requirement",
        "--constraint",
        "--editable",
    ];
    let line = line.trim();
    let option = line.split([' ', '=']).next().unwrap_or_default();
    options.contains(&option) || line.starts_with(['.', '/']) || line.contains("file:")
}

/// What a `uv.lock` locks, as requirements with their hashes, in a file that is called as its content.
fn exported(lock: &Path, python: &str) -> TaskResult<PathBuf> {
    let uv = uv_here(Some(python)).ok_or("--env uv.lock needs uv here: pip install uv")?;
    let lock = std::path::absolute(lock)?;
    let folder = lock.parent().unwrap_or(Path::new("/"));
    let output = Command::new(&uv)
        .args([
            "export",
            "--frozen",
            "--no-dev",
            "--no-emit-project",
            "--quiet",
            "--project",
        ])
        .arg(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", uv.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("--env {}: uv export: {said}", lock.display()).into());
    }
    let mut content = Context::new(&SHA256);
    content.update(&output.stdout);
    let place = dsgd::cache_folder()
        .join("code")
        .join(package::digits(content));
    fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    let file = place.join("requirements.txt");
    fs::write(&file, &output.stdout).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}

/// The packages in a folder.
///
/// # Errors
/// When there is none.
pub(crate) fn wheels_in(folder: &Path) -> TaskResult<Vec<DataFile>> {
    let shown = folder.display();
    let entries = fs::read_dir(folder).map_err(|error| format!("--wheels {shown}: {error}"))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut wheels: Vec<_> = paths.collect::<io::Result<_>>()?;
    wheels.retain(|path| path.extension() == Some("whl".as_ref()));
    wheels.sort();
    if wheels.is_empty() {
        return Err(format!(
            "--wheels {shown}: there is no .whl file in it; pip download -r requirements.txt -d {shown} fetches them"
        )
        .into());
    }
    Ok(wheels.into_iter().map(DataFile::from).collect())
}

/// The uv of this machine: on the path, beside a Python, or where its installers put it.
pub(crate) fn uv_here(python: Option<&str>) -> Option<PathBuf> {
    let on_path = env::var_os("PATH").unwrap_or_default();
    let beside = python.and_then(|python| Path::new(python).parent());
    let home = env::home_dir().unwrap_or_default();
    let folders = env::split_paths(&on_path)
        .chain(beside.map(Path::to_path_buf))
        .chain([".local/bin", ".cargo/bin"].map(|folder| home.join(folder)));
    folders
        .map(|folder| folder.join("uv"))
        .find(|uv| is_program(uv))
}

/// Whether it is a program of Linux's, which can be sent, and no script that calls one.
fn is_program(file: &Path) -> bool {
    let mut begins = [0; 4];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut begins));
    read.is_ok() && &begins == b"\x7fELF"
}

/// The Python of the environment, which is made here if it is not there. `candidates` are the Pythons to make it from;
/// where there is none of them, uv looks for another, or fetches one.
///
/// # Errors
/// uv's own words.
pub(crate) fn made(wanted: &Wanted<'_>, candidates: &[String]) -> TaskResult<String> {
    let base = candidates
        .iter()
        .find_map(|python| Some((python, interpreter::version(python)?)));
    let mut content = Context::new(&SHA256);
    content.update(&fs::read(wanted.requirements)?);
    for wheel in wanted.wheels {
        // Its name says its version and what it is for; the folder above is called by its content.
        content.update(wheel.as_os_str().as_encoded_bytes());
    }
    if let Some((python, version)) = &base {
        content.update(format!("{python} {version}").as_bytes());
    }
    let envs = dsgd::cache_folder().join("envs");
    let folder = envs.join(package::digits(content));
    let at = |error: io::Error| format!("{}: {error}", envs.display());
    fs::create_dir_all(&envs).map_err(at)?;
    // Another process of this host may be making it, or a uv whose process was killed: it has the lock as its standard input.
    // Then it is waited for, and itself waits for no answer of an index without end.
    let lock = File::create(folder.with_extension("lock")).map_err(at)?;
    lock.lock().map_err(at)?;
    let python = folder.join("bin/python");
    let complete = folder.join("complete");
    if !complete.is_file() {
        let name = wanted
            .requirements
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        tell(format_args!("makes a Python environment from {name}"));
        let begun = Instant::now();
        install(
            wanted,
            base.map(|(python, _)| python.as_str()),
            &folder,
            &lock,
        )?;
        File::create(&complete).map_err(at)?;
        tell(format_args!(
            "the environment is made: {:.1} s",
            begun.elapsed().as_secs_f64()
        ));
    }
    Ok(python.display().to_string())
}

fn install(wanted: &Wanted<'_>, base: Option<&str>, folder: &Path, lock: &File) -> TaskResult<()> {
    let uv = uv_for(wanted.uv)?;
    let mut venv = Command::new(&uv);
    venv.args(["venv", "--quiet", "--no-project", "--clear", "--python"]);
    let venv = venv.arg(base.unwrap_or(">=3.9")).arg(folder);
    run(venv, lock, "uv venv")?;
    let mut install = Command::new(&uv);
    install.args(["pip", "install", "--no-progress", "--no-config", "--python"]);
    install.arg(folder.join("bin/python"));
    install.arg("-r").arg(wanted.requirements);
    if !wanted.wheels.is_empty() {
        let links = folder.join("wheels");
        fs::create_dir_all(&links)?;
        for wheel in wanted.wheels {
            let name = wheel.file_name().unwrap_or_default();
            symlink(fs::canonicalize(wheel)?, links.join(name))?;
        }
        install
            .args(["--offline", "--no-index", "--find-links"])
            .arg(links);
    }
    run(&mut install, lock, "uv pip install")
}

/// A uv that runs here: the one that was sent, where this machine is of the same kind, else its own.
fn uv_for(sent: Option<&Path>) -> TaskResult<PathBuf> {
    if let Some(sent) = sent {
        let runs = || {
            Command::new(sent)
                .arg("--version")
                .stdin(Stdio::null())
                .output()
        };
        // What was sent lies there as data.
        let asked = runs().or_else(|_| {
            fs::set_permissions(sent, fs::Permissions::from_mode(0o700))?;
            runs()
        });
        if asked.is_ok_and(|answer| answer.status.success()) {
            return Ok(sent.to_path_buf());
        }
    }
    uv_here(None).ok_or_else(|| {
        let why = match sent {
            Some(_) => "the uv that was sent does not run here",
            None => "there was no uv to send",
        };
        format!("--env makes environments by uv: {why}, and this host has none; pip install uv")
            .into()
    })
}

/// Runs it; what it says of its progress is passed on.
fn run(command: &mut Command, lock: &File, what: &str) -> TaskResult<()> {
    let mut child = command
        .stdin(Stdio::from(lock.try_clone()?))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{what}: {error}"))?;
    let mut last = VecDeque::new();
    for line in BufReader::new(child.stderr.take().expect("it is a pipe")).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim().to_owned();
        if line.is_empty() {
            continue;
        }
        tell(format_args!("{line}"));
        last.push_back(line);
        if last.len() > SHOWN {
            last.pop_front();
        }
    }
    if child.wait()?.success() {
        return Ok(());
    }
    let said = Vec::from(last).join(" ");
    Err(format!("{what}: {said}").into())
}

/// To whoever reads what this process says; perhaps nobody does any more.
fn tell(words: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{words}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_travel_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let good = file(
            "requirements.txt",
            "# ours\nnumpy >= 1.24\ntorch==2.15.0 --hash=sha256:00\n",
        );
        assert_eq!(requirements(&good, "python3").unwrap(), good);
        for line in [
            "-r base.txt",
            "-e .",
            "./mine.whl",
            "mine @ file:///a/mine.whl",
            "--constraint=c.txt",
        ] {
            let bad = file("requirements.txt", &format!("numpy\n{line}\n"));
            let error = requirements(&bad, "python3").unwrap_err().to_string();
            assert!(
                error.contains(&format!("requirements.txt:2: {line} names a file")),
                "{error}"
            );
        }
        let error = requirements(&file("environment.yml", ""), "python3")
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("expected a requirements.txt, a pyproject.toml or a uv.lock"),
            "{error}"
        );
        let error = wheels_in(folder.path()).err().unwrap().to_string();
        assert!(error.contains("there is no .whl file in it"), "{error}");
    }
}
