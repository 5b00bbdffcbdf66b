//! The page as a person sees it: in a browser, which `browser/page.mjs` drives.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::get;
use super::{Runs, Served, dashboard};
use crate::program::{Program, until};

/// How long it may take until a worker that was killed is shown as lost, with its reason.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// A browser that looks at a page.
struct Browser {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Browser {
    /// Starts a scenario, or says why the test cannot be done here.
    fn open(test: &str, args: &[&str]) -> Option<Self> {
        let tools = match tools() {
            Ok(tools) => tools,
            Err(lacks) => {
                say(&format!("SKIPPED {test}: {lacks}"));
                return None;
            }
        };
        let mut command = Command::new("node");
        command
            .arg(tools.folder.join("page.mjs"))
            .args(args)
            .env("CHROMIUM", &tools.chromium)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, said })
    }

    /// The next value that it prints.
    fn next_value(&mut self) -> Value {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("it has failed: {line}"))
    }

    /// All was as it should be.
    fn ends_well(mut self) {
        let status = until(|| self.child.try_wait().unwrap());
        assert!(status.expect("it ends").success());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a browser test is made with.
struct Tools {
    /// With the script and what it uses.
    folder: PathBuf,
    chromium: PathBuf,
}

/// Brings the script's own library here once, as its lock file has it; or says what is missing.
fn tools() -> &'static Result<Tools, String> {
    static TOOLS: OnceLock<Result<Tools, String>> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let find = |names: &[&str]| {
            let mut all = std::env::split_paths(&paths)
                .flat_map(|folder| names.iter().map(move |name| folder.join(name)));
            all.find(|path| path.is_file())
        };
        let chromium = find(&["chromium", "chromium-browser", "google-chrome"])
            .ok_or("there is no chromium (apt-get install chromium)")?;
        find(&["node"]).ok_or("there is no node (apt-get install nodejs)")?;
        let npm = find(&["npm"]).ok_or("there is no npm (apt-get install npm)")?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/page/browser");
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        for name in ["page.mjs", "package.json", "package-lock.json", ".npmrc"] {
            let copied = fs::copy(source.join(name), folder.join(name));
            copied.map_err(|error| format!("{name}: {error}"))?;
        }
        let mut npm = Command::new(npm);
        npm.args(["ci", "--ignore-scripts", "--prefer-offline"])
            .current_dir(&folder)
            .stdin(Stdio::null());
        let output = npm.output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("npm ci has failed: {}", said.trim()));
        }
        Ok(Tools { folder, chromium })
    })
}

fn measured(what: &str, words: &Value) {
    say(&format!("MEASURED {what}: {words}"));
}

/// Around the test harness, which would keep it to itself.
fn say(words: &str) {
    let mut stderr = io::stderr();
    writeln!(stderr, "{words}").unwrap();
}

/// A run that lasts until it is dropped.
fn training(program: &Program, more: &str) -> Served {
    let args = format!(
        "train -n 2 --epochs 1000 --examples 1000 --save-every 100 --run-dir runs/live --dashboard 127.0.0.1:0 {more}"
    );
    let served = Served::start(program.command(&args, "slow:10"));
    let steps = || get(served.1, "/api/board").json()["steps"].as_u64();
    until(|| (steps() > Some(20)).then_some(())).expect("it runs");
    served
}

#[test]
fn the_page_grows_while_the_run_goes_on() {
    let program = Program::new();
    let served = training(&program, "");
    let test = "the_page_grows_while_the_run_goes_on";
    let Some(mut browser) = Browser::open(test, &["live", &served.2]) else {
        return;
    };
    measured("points of the curve", &browser.next_value());
    browser.ends_well();
}

#[test]
fn the_page_fits_phones_and_wide_screens_light_and_dark() {
    let program = Program::new();
    let served = training(&program, "");
    let test = "the_page_fits_phones_and_wide_screens_light_and_dark";
    if let Some(browser) = Browser::open(test, &["looks", &served.2]) {
        browser.ends_well();
    }
}

#[test]
fn a_worker_that_is_killed_turns_red_and_says_why() {
    let program = Program::new();
    let served = training(&program, "--listen 127.0.0.1:0");
    let invitation = File::open(program.path("runs/live/invitation")).unwrap();
    let mut command = program.command("worker -n 1", "slow:10");
    let mut worker = command
        .stdin(invitation)
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let joined = until(|| {
        let board = get(served.1, "/api/board").json();
        let workers = board["workers"].as_object().unwrap();
        let works = |(name, row): (&String, &Value)| {
            (!name.starts_with("local/") && row["batches"].as_u64() > Some(2)).then(|| name.clone())
        };
        workers.iter().find_map(works)
    });
    let name = joined.expect("it has joined");
    let test = "a_worker_that_is_killed_turns_red_and_says_why";
    let browser = Browser::open(test, &["lost", &served.2, &name]);
    let Some(mut browser) = browser else {
        let _ = worker.kill();
        let _ = worker.wait();
        return;
    };
    assert_eq!(browser.next_value()["ready"], true);
    worker.kill().unwrap();
    let since = Instant::now();
    let mut seen = browser.next_value();
    let took = since.elapsed();
    assert!(took < SHOWN_WITHIN, "{took:?}");
    assert!(
        seen["lost"].as_str().unwrap().len() > "lost".len(),
        "{seen}"
    );
    seen["secs"] = took.as_secs_f64().into();
    measured("a killed worker is red", &seen);
    browser.ends_well();
    worker.wait().unwrap();
}

#[test]
fn a_run_of_a_million_events_and_256_workers_opens_in_seconds() {
    let (runs, program) = (Runs::new(), Program::new());
    runs.begin("long", 256);
    runs.steps("long", 256, 1..=1_000_000);
    let served = dashboard(&program, &runs.path("long"));
    let test = "a_run_of_a_million_events_and_256_workers_opens_in_seconds";
    let args = ["big", &served.2, "1,000,000 steps", "256"];
    let Some(mut browser) = Browser::open(test, &args) else {
        return;
    };
    let mut seen = browser.next_value();
    seen["server_mib"] = served.rss_mib().into();
    measured("a million events and 256 workers", &seen);
    browser.ends_well();
    assert!(served.rss_mib() < 200, "{} MiB", served.rss_mib());
}

#[test]
fn runs_of_a_folder_are_laid_over_each_other() {
    let (runs, program) = (Runs::new(), Program::new());
    for (name, steps) in [("first", 300), ("second", 500)] {
        runs.begin(name, 2);
        runs.steps(name, 2, 1..=steps);
    }
    let served = dashboard(&program, &runs.path("first"));
    let test = "runs_of_a_folder_are_laid_over_each_other";
    if let Some(browser) = Browser::open(test, &["compare", &served.2, "second"]) {
        browser.ends_well();
    }
}

#[test]
fn a_classifiers_page_shows_its_accuracy() {
    let (program, other) = (Program::of("classifier"), Program::of("linear"));
    fs::write(program.path("rows.csv"), crate::examples::rows()).unwrap();
    program.says("train -n 1 --learning-rate 1 --epochs 3 --csv rows.csv --run-dir runs/class");
    let line = program.path("runs/line");
    other.says(&format!(
        "train -n 1 --epochs 2 --run-dir {}",
        line.display()
    ));
    let served = Served::start(program.command("dashboard runs/class --listen 127.0.0.1:0", ""));
    let test = "a_classifiers_page_shows_its_accuracy";
    if let Some(browser) = Browser::open(test, &["accuracy", &served.2, "line"]) {
        browser.ends_well();
    }
}
