//! Programs as their users start them: whole processes, each test in a folder of its own.

use std::env;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A program and a folder to call it in, which goes when it is dropped.
pub(crate) struct Program {
    file: PathBuf,
    folder: TempDir,
}

impl Program {
    /// The program of the words task, which makes trouble.
    pub(crate) fn new() -> Self {
        Self::of("trouble")
    }

    /// That example of the crate.
    pub(crate) fn of(example: &str) -> Self {
        Self {
            file: examples().join(example),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with these arguments and that trouble, not yet started.
    pub(crate) fn command(&self, args: &str, trouble: &str) -> Command {
        let mut command = Command::new(&self.file);
        command.args(args.split_whitespace());
        command.current_dir(self.folder.path());
        // Where there is none, that of --trouble holds.
        match trouble {
            "" => command.env_remove("TROUBLE"),
            trouble => command.env("TROUBLE", trouble),
        };
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub(crate) fn start(&self, args: &str, trouble: &str) -> Output {
        end(self.command(args, trouble).spawn().unwrap())
    }

    /// What it says as it ends well.
    pub(crate) fn says(&self, args: &str) -> String {
        finished(&self.start(args, ""))
    }

    /// What it complains of as it fails.
    pub(crate) fn fails(&self, args: &str, trouble: &str) -> String {
        failed(&self.start(args, trouble))
    }
}

/// Standard output of a program that ended well.
pub(crate) fn finished(output: &Output) -> String {
    let (out, err) = words(output);
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out
}

/// Standard error of a program that failed, in words and not by a panic.
pub(crate) fn failed(output: &Output) -> String {
    let (out, err) = words(output);
    let code = output.status.code();
    assert!(matches!(code, Some(1 | 2)), "{code:?}\n{out}\n{err}");
    assert!(err.contains("error: "), "{err}");
    err
}

pub(crate) fn words(output: &Output) -> (String, String) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Waits for the end of a process and ends it when it takes too long.
pub(crate) fn end(mut child: Child) -> Output {
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
            bytes
        })
    };
    let stdout = read(child.stdout.take().map(|p| Box::new(p) as _));
    let stderr = read(child.stderr.take().map(|p| Box::new(p) as _));
    let status = wait(&mut child);
    Output {
        status,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

/// Waits for the end of a process and ends it when it takes too long.
pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    let ended = until(|| child.try_wait().unwrap());
    ended.unwrap_or_else(|| {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("it does not end");
    })
}

/// Asks again and again until there is an answer, or for too long.
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    loop {
        let answer = ask();
        if answer.is_some() || started.elapsed() > PATIENCE {
            return answer;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The folder of the crate's examples, built as this test was built.
fn examples() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // TARGET/PROFILE/deps/it-1234
        let own = env::current_exe().unwrap();
        let profile = own.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        // As `./check` builds everything, so that nothing is built twice.
        cargo.args(["build", "--quiet", "--workspace"]);
        for example in ["linear", "candle", "table", "classifier", "trouble"] {
            cargo.args(["--example", example]);
        }
        match profile.file_name().and_then(OsStr::to_str).unwrap() {
            "debug" => {}
            other => {
                cargo.args(["--profile", other]);
            }
        }
        // What cargo says of this package here, build scripts of dependencies (ring's) would take
        // for theirs, and all that depends on them would be built anew, there and back.
        for (name, _) in env::vars_os() {
            let word = name.to_string_lossy();
            let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"];
            if own.iter().any(|start| word.starts_with(start)) {
                cargo.env_remove(name);
            }
        }
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", words(&output).1);
        profile.join("examples")
    })
}
