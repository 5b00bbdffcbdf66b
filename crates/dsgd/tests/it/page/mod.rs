//! The page: what it says, to whom, and that nobody who looks is a burden to a run.

mod browser;
mod http;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use dsgd::{Part, Stats};
use dsgd_core::event::{Contribution, Cost, Event, Record, Step};
use dsgd_core::metric::Metric;
use dsgd_core::mode::Mode;
use dsgd_engine::run;
use dsgd_engine::wire::credentials::Token;
use dsgd_observe::page::{Page, Stand};
use tempfile::TempDir;

use crate::elsewhere::server_of;
use crate::program::{Program, end, finished, until};
use http::{Reader, get, get_with, send, try_to_get};

const PATHS: [&str; 6] = [
    "/",
    "/api/board",
    "/api/events",
    "/api/runs",
    "/metrics",
    "/healthz",
];

/// Folders of runs, written by hand.
pub(super) struct Runs(TempDir);

impl Runs {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Adds these events to a run.
    fn write(&self, name: &str, events: impl IntoIterator<Item = (f64, Event)>) {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(folder.join(run::EVENTS));
        let mut file = BufWriter::new(file.unwrap());
        for (at_secs, event) in events {
            serde_json::to_writer(&mut file, &Record { at_secs, event }).unwrap();
            file.write_all(b"\n").unwrap();
        }
        file.flush().unwrap();
    }

    /// The beginning of a run of so many workers, on hosts with four each.
    fn begin(&self, name: &str, workers: u32) {
        let started = Event::RunStarted {
            unix_secs: 1.75e9,
            task: "words".to_owned(),
            parameters: 1000,
            workers: workers as usize,
            mode: Mode::Async,
            epochs: 2,
            about: vec!["pairs of words".to_owned()],
            metrics: vec![Metric::perplexity()],
            units: ["source tokens", "target tokens"].into(),
            resumed_at: None,
        };
        let joined = (0..workers).map(|worker| Event::WorkerJoined {
            worker,
            name: name_of(worker),
        });
        let events = std::iter::once(started).chain(joined);
        self.write(name, events.map(|event| (0.0, event)));
    }

    /// Steps of a run.
    fn steps(&self, name: &str, workers: u32, steps: std::ops::RangeInclusive<u64>) {
        self.write(name, steps.map(|version| step(version, workers)));
    }
}

fn name_of(worker: u32) -> String {
    format!("h{}/{}", worker / 4, worker % 4)
}

fn step(version: u64, workers: u32) -> (f64, Event) {
    let stats = Stats {
        loss: 100.0 * (2.0 + 5.0 / (1.0 + version as f64 / 1000.0)),
        count: 100,
        examples: 10,
        units: [100, 100],
        ..Stats::default()
    };
    let part = Contribution {
        worker: version as u32 % workers,
        batches: vec![version as usize],
        part: Part::WHOLE,
        stats,
        cost: Cost {
            compute_secs: 0.8,
            pull_secs: 0.1,
            push_secs: 0.05,
            wait_secs: 0.05,
            bytes: 8000,
            catches_up: false,
        },
    };
    let step = Step {
        epoch: 1,
        version,
        counted: version as usize,
        batches: 2_000_000,
        parts: vec![part],
        epoch_stats: stats,
        learning_rate: 0.01,
        staleness: u64::from(workers) - 1,
        grad_norm: 1.0 + 1.0 / version as f64,
        param_norm: None,
        live: workers as usize,
    };
    (version as f64 / f64::from(workers), Event::Step(step))
}

/// A page of a run, served by this process.
fn serve(run: &Path, token: Option<Token>) -> (Page, SocketAddr) {
    let stand = Stand::take(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = stand.address();
    (Page::serve(stand, run, token).unwrap(), address)
}

/// Waits until a page has read that many steps.
fn wait_for_steps(server: SocketAddr, steps: u64) {
    let seen = until(|| {
        let board = get(server, "/api/board").json();
        (board["steps"] == steps).then_some(())
    });
    seen.expect("all steps are read");
}

#[test]
fn a_reader_sees_the_run_and_then_what_is_new() {
    let runs = Runs::new();
    runs.begin("one", 4);
    runs.steps("one", 4, 1..=100);
    let (page, server) = serve(&runs.path("one"), None);
    wait_for_steps(server, 100);
    let board = get(server, "/api/board").json();
    assert_eq!(board["task"], "words");
    assert_eq!(board["live"], 4);
    assert_eq!(board["workers"]["h0/3"]["batches"], 25);

    let mut reader = Reader::open(server, "/api/events");
    let first = reader.next().unwrap();
    assert_eq!(first["whole"], true);
    assert_eq!(first["series"]["step"].as_array().unwrap().len(), 100);
    runs.steps("one", 4, 101..=103);
    let lost = Event::WorkerLost {
        worker: 2,
        name: name_of(2),
        reason: "its connection broke".to_owned(),
    };
    runs.write("one", [(30.0, lost)]);
    let started = Instant::now();
    let mut rows = Vec::new();
    while rows.is_empty() {
        let frame = reader.next().unwrap();
        assert_eq!(frame["whole"], false);
        if frame["head"]["steps"] == 103 && frame["head"]["live"] == 3 {
            assert!(frame["series"]["step"].as_array().unwrap().len() <= 4);
            assert!(frame["workers"]["name"].as_array().unwrap().len() <= 4);
            rows.push(frame);
        }
    }
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "it is told soon"
    );
    // What a run says at its end is told before the page closes.
    let end = Event::RunFinished {
        outcome: "finished".to_owned(),
        steps: 103,
    };
    runs.write("one", [(31.0, end)]);
    page.close();
    let mut last = None;
    while let Some(frame) = reader.next() {
        last = Some(frame);
    }
    assert_eq!(last.unwrap()["head"]["outcome"], "finished");
    // Another test's server may have got the port by now.
    let still = try_to_get(server, "/api/board", "");
    let still = still.is_ok_and(|a| a.status == 200 && a.json()["steps"] == 103);
    assert!(!still, "nobody is there any more");
}

#[test]
fn readers_come_no_faster_than_twice_a_second() {
    let runs = Runs::new();
    runs.begin("one", 4);
    let (page, server) = serve(&runs.path("one"), None);
    let mut reader = Reader::open(server, "/api/events");
    reader.next().unwrap();
    let writer = thread::spawn({
        let started = Instant::now();
        move || {
            let mut version = 0;
            while started.elapsed() < Duration::from_secs(3) {
                runs.steps("one", 4, version + 1..=version + 10);
                version += 10;
                thread::sleep(Duration::from_millis(5));
            }
            runs
        }
    });
    let started = Instant::now();
    let mut frames = 0;
    while !writer.is_finished() {
        reader.next().unwrap();
        frames += 1;
    }
    let most = 2 + (2.0 * started.elapsed().as_secs_f64()) as usize;
    assert!((2..=most).contains(&frames), "{frames} of at most {most}");
    page.close();
}

#[test]
fn without_the_token_nothing_answers() {
    let runs = Runs::new();
    runs.begin("one", 1);
    let (token, other) = (Token::fresh(), Token::fresh());
    let (page, server) = serve(&runs.path("one"), Some(token.clone()));
    let (token, other) = (String::from(token), String::from(other));
    for path in PATHS.into_iter().chain(["/nothing"]) {
        for wrong in ["", "?token=", "?token=x", &format!("?token={other}")] {
            let answer = get(server, &format!("{path}{wrong}"));
            assert_eq!(answer.status, 401, "{path}{wrong}");
            assert!(answer.body.contains("?token="), "it says what to do");
        }
    }
    for path in PATHS.into_iter().filter(|path| *path != "/api/events") {
        assert_eq!(get(server, &format!("{path}?token={token}")).status, 200);
        let bearer = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(get_with(server, path, &bearer).status, 200);
    }
    let document = get(server, &format!("/?token={token}"));
    assert!(
        !document.body.contains(&token),
        "it is in the address alone"
    );
    page.close();
}

#[test]
fn a_stranger_s_name_for_this_machine_is_not_answered() {
    let runs = Runs::new();
    runs.begin("one", 1);
    let (page, server) = serve(&runs.path("one"), None);
    let evil = get_with(server, "/api/board", "Host: evil.example\r\n");
    assert_eq!(evil.status, 421);
    assert_eq!(get_with(server, "/", "Host: localhost:1\r\n").status, 200);
    page.close();
}

#[test]
fn the_document_brings_everything_along_and_lets_nothing_else_in() {
    let runs = Runs::new();
    runs.begin("one", 1);
    let (page, server) = serve(&runs.path("one"), None);
    let document = get(server, "/");
    let policy = document.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'nonce-"));
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
    let nonce = policy.split("'nonce-").nth(1).unwrap();
    let nonce = nonce.split('\'').next().unwrap();
    assert_eq!(
        document.body.matches(&format!("nonce=\"{nonce}\"")).count(),
        3
    );
    let again = get(server, "/");
    assert!(!again.body.contains(nonce), "it is good once");
    assert!(!document.body.contains("{{") && !document.body.contains("/*{{"));
    for outside in ["src=\"", "@import", "url(", "//cdn", "https://"] {
        let allowed = match outside {
            "https://" => 1, // In the comment that names where uPlot comes from.
            _ => 0,
        };
        assert_eq!(document.body.matches(outside).count(), allowed, "{outside}");
    }
    for path in PATHS.into_iter().filter(|path| *path != "/api/events") {
        let answer = get(server, path);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert!(answer.header("content-security-policy").contains("'none'"));
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    assert_eq!(get(server, "/nothing").status, 404);
    page.close();
}

#[test]
fn metrics_are_as_prometheus_wants_them() {
    let runs = Runs::new();
    runs.begin("a \"quoted\" run", 8);
    runs.steps("a \"quoted\" run", 8, 1..=80);
    let (page, server) = serve(&runs.path("a \"quoted\" run"), None);
    wait_for_steps(server, 80);
    let answer = get(server, "/metrics");
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let (mut known, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for line in answer.body.lines() {
        if let Some(words) = line.strip_prefix("# TYPE ") {
            let (name, kind) = words.split_once(' ').unwrap();
            assert!(known.insert(name), "{name} is there twice");
            assert!(name.ends_with("_total") == (kind == "counter"), "{line}");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        value
            .parse::<f64>()
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        let name = series.split('{').next().unwrap();
        assert!(name.starts_with("dsgd_") && known.contains(name), "{line}");
        assert!(seen.insert(series), "{series} is there twice");
    }
    for expected in [
        "dsgd_run_info{run=\"a \\\"quoted\\\" run\",task=\"words\",mode=\"async\"}",
        "dsgd_steps_total",
        "dsgd_workers_live",
        "dsgd_worker_up{worker=\"h1/3\",host=\"h1\"}",
        "dsgd_worker_seconds_total{worker=\"h0/0\",host=\"h0\",phase=\"wait\"}",
    ] {
        assert!(seen.contains(expected), "{expected}\n{}", answer.body);
    }
    assert_eq!(get(server, "/healthz").body, "ok\n");
    page.close();
}

#[test]
fn too_many_readers_are_turned_away_and_come_in_when_others_go() {
    let runs = Runs::new();
    runs.begin("one", 1);
    let (page, server) = serve(&runs.path("one"), None);
    let open = |_| Reader::open(server, "/api/events");
    let mut readers: Vec<_> = (0..32).map(open).collect();
    let refused = get(server, "/api/events");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), "10");
    assert!(refused.body.contains("32 pages are open"), "{refused:?}");
    assert_eq!(get(server, "/api/board").status, 200, "others are answered");
    readers.pop();
    let comes_in = until(|| {
        let mut answer = [0; 12];
        let mut stream = send(server, "/api/events", "");
        std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
        answer.ends_with(b"200").then_some(())
    });
    comes_in.expect("there is a place again");
    drop(readers);
    page.close();
}

#[test]
fn other_runs_of_the_folder_are_there_and_nothing_else_is() {
    let runs = Runs::new();
    for (name, steps) in [("one", 10), ("two", 2000), ("th ree", 30)] {
        runs.begin(name, 2);
        runs.steps(name, 2, 1..=steps);
    }
    fs::create_dir(runs.path("no run")).unwrap();
    let outside = Runs::new();
    outside.begin("secret", 1);
    // It was taken up for more epochs than its events begin with.
    fs::write(runs.path("two").join("config.toml"), "[run]\nepochs = 26\n").unwrap();
    let (page, server) = serve(&runs.path("one"), None);
    let list = get(server, "/api/runs").json();
    assert_eq!(list["main"], "one");
    let listed = list["runs"].as_array().unwrap();
    let names: BTreeSet<_> = listed
        .iter()
        .map(|run| run["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, BTreeSet::from(["one", "two", "th ree"]));
    let two = listed.iter().find(|run| run["name"] == "two").unwrap();
    assert_eq!(
        (&two["steps"], &two["task"]),
        (&2000.into(), &"words".into())
    );
    assert_eq!((&two["epoch"], &two["epochs"]), (&0.into(), &26.into()));
    let seen = until(|| {
        let board = get(server, "/api/board?run=th%20ree").json();
        (board["steps"] == 30).then_some(())
    });
    seen.expect("another run can be seen");
    let secret = outside.path("secret").display().to_string();
    for name in [
        "no run",
        "four",
        "..",
        "%2e%2e",
        "",
        ".",
        &secret,
        "one/../two",
        "one%00",
    ] {
        let name = name.replace(' ', "%20");
        let answer = get(server, &format!("/api/board?run={name}"));
        assert_eq!(answer.status, 404, "{name}");
    }
    page.close();
}

/// A page of a process of its own.
struct Served(Child, SocketAddr, String);

impl Served {
    /// Reads where it is from what it says.
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut url = None;
        let mut line = String::new();
        while url.is_none() {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut said, &mut line).unwrap() > 0);
            url = line.find("http://").map(|at| line[at..].trim().to_owned());
        }
        // Whoever writes needs a reader.
        thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let url = url.unwrap();
        let at = url.trim_start_matches("http://").split('/').next().unwrap();
        let port = at.rsplit(':').next().unwrap().parse().unwrap();
        Self(child, SocketAddr::from(([127, 0, 0, 1], port)), url)
    }

    fn rss_mib(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kib: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib >> 10
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `dsgd dashboard` for that path, on a free port.
fn dashboard(program: &Program, path: &Path) -> Served {
    let args = format!("dashboard --listen 127.0.0.1:0 {}", path.display());
    let mut command = program.command(&args, "");
    command.stderr(Stdio::inherit());
    Served::start(command)
}

#[test]
fn readers_that_stand_still_cost_no_memory() {
    let (runs, program) = (Runs::new(), Program::new());
    runs.begin("one", 256);
    runs.steps("one", 256, 1..=20_000);
    let served = dashboard(&program, &runs.path("one"));
    wait_for_steps(served.1, 20_000);
    // They ask and take nothing.
    let still: Vec<_> = (0..16).map(|_| send(served.1, "/api/events", "")).collect();
    let mut reader = Reader::open(served.1, "/api/events");
    reader.next().unwrap();
    let before = served.rss_mib();
    for round in 1..=10 {
        runs.steps("one", 256, 20_000 * round + 1..=20_000 * (round + 1));
        reader.next().unwrap();
    }
    let last = until(|| {
        let frame = reader.next().unwrap();
        (frame["head"]["steps"] == 220_000).then_some(())
    });
    last.expect("who reads gets the latest");
    let grown = served.rss_mib().saturating_sub(before);
    assert!(grown < 64, "{grown} MiB more than the {before} before");
    drop(still);
}

#[test]
fn readers_that_stand_still_hold_no_run_up_and_others_see_its_end() {
    let program = Program::new();
    let args = "train -n 4 --epochs 30 --dashboard 127.0.0.1:0 --run-dir run";
    let mut served = Served::start(program.command(args, "slow:5"));
    assert!(!served.2.contains("token"), "{}", served.2);
    let still: Vec<_> = (0..8).map(|_| send(served.1, "/api/events", "")).collect();
    let mut reader = Reader::open(served.1, "/api/events");
    let (mut last, mut grows) = (None, 0);
    while let Some(frame) = reader.next() {
        grows += usize::from(frame["head"]["steps"].as_u64() > Some(0));
        last = Some(frame);
    }
    let last = last.unwrap();
    assert_eq!(last["head"]["outcome"], "finished");
    assert_eq!(last["head"]["steps"], 600);
    assert!(grows >= 2, "it was seen while it ran");
    let ended = until(|| served.0.try_wait().unwrap());
    assert!(ended.expect("it ends").success());
    drop(still);
}

#[test]
fn a_page_for_others_wants_a_token_that_only_the_user_can_read() {
    let program = Program::new();
    let args = "train -n 2 --epochs 1 --quiet --dashboard 0.0.0.0:0 --run-dir run";
    let mut served = Served::start(program.command(args, "slow:50"));
    let token = served.2.split("?token=").nth(1).unwrap().to_owned();
    assert_eq!(get(served.1, "/healthz").status, 401);
    assert_eq!(
        get(served.1, &format!("/healthz?token={token}")).status,
        200
    );
    let file = fs::metadata(program.path("run/dashboard.json")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert!(until(|| served.0.try_wait().unwrap()).unwrap().success());
    for file in ["events.jsonl", "log.txt", "config.toml"] {
        let text = fs::read_to_string(program.path("run").join(file)).unwrap();
        assert!(!text.contains(&token), "{file}");
    }
}

#[test]
fn a_restarted_server_has_its_page_where_it_was() {
    let program = Program::new();
    let args = "train -n 2 --epochs 40 --dashboard 0.0.0.0:0 --run-dir run";
    let served = Served::start(program.command(args, "slow:20"));
    let token = served.2.split("?token=").nth(1).unwrap();
    let path = format!("/api/board?token={token}");
    let steps = || get(served.1, &path).json()["steps"].as_u64();
    until(|| (steps() > Some(30)).then_some(())).expect("it runs");
    let server = server_of(served.0.id()).unwrap().to_string();
    let killed = Command::new("kill").args(["-9", &server]).status().unwrap();
    assert!(killed.success());
    let back = until(|| {
        let board = try_to_get(served.1, &path, "").ok()?.json();
        (board["lives"] == 2).then_some(board)
    });
    let board = back.expect("it is there again");
    assert!(
        board["steps"].as_u64() > Some(0),
        "with what was before: {board}"
    );
    let pid = served.0.id().to_string();
    Command::new("kill")
        .args(["-s", "INT", &pid])
        .status()
        .unwrap();
}

#[test]
fn what_is_no_run_is_reported() {
    let program = Program::new();
    fs::create_dir(program.path("empty")).unwrap();
    let said = program.fails("dashboard empty", "");
    assert!(said.contains("empty is no run and holds none"), "{said}");
    let said = program.fails("train --dashboard nonsense", "");
    assert!(
        said.contains("nonsense: must be an address and a port"),
        "{said}"
    );
    // An address that somebody wants is not left for another one in silence.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let said = program.fails(&format!("train --dashboard {address}"), "");
    assert!(said.contains("another port may be free"), "{said}");
}

#[test]
fn the_usual_port_is_another_one_when_it_is_taken() {
    let usual = Stand::usual(None);
    assert!(usual.iter().all(|address| address.ip().is_loopback()));
    let first = Stand::take(&usual).unwrap();
    let second = Stand::take(&usual).unwrap();
    assert_ne!(first.address(), second.address());
    assert!(first.is_loopback() && second.is_loopback());
    let again = Stand::usual(Some(4000));
    assert_eq!(again[0].port(), 4000, "where it was before");
}

#[test]
fn a_finished_run_can_be_seen_again() {
    let program = Program::new();
    let args = "train -n 2 --epochs 2 --run-dir runs/w";
    finished(&end(program.command(args, "").spawn().unwrap()));
    let served = dashboard(&program, &program.path("runs"));
    let frame = Reader::open(served.1, "/api/events").next();
    let seen = until(|| {
        let board = get(served.1, "/api/board").json();
        (board["outcome"] == "finished").then_some(board)
    });
    assert!(frame.is_some());
    assert_eq!(seen.expect("all was read")["epochs"], 2);
}
