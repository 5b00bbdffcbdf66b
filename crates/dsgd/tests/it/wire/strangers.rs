//! Who does not belong to a run gets nowhere, is told of, and costs nothing; its secrets are nowhere
//! to be read. Real processes, real sockets.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dsgd::{Layout, Model};
use dsgd_core::event::Event;
use dsgd_engine::wire::credentials::{Identity, Token};
use dsgd_engine::wire::link::{Client, Endpoint, LinkError};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::runtime::Runtime;
use tonic::Code;

use crate::elsewhere::{Watched, on, server_of};
use crate::program::{Program, finished, until, words};
use crate::runs::assert_each_batch_once;
use crate::ssh::Lab;
use crate::task::Words;
use crate::wire::listening::{Listening, client, words_of};
use crate::wire::{assert_refused, join_request, nonce};

/// What the server has room for, and what it gives each of them.
const MOST_STRANGERS: usize = 512;
const ADMISSION: Duration = Duration::from_secs(10);

fn sockets() -> String {
    let output = Command::new("ss").args(["-ltnpH"]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Addresses on which a process listens.
fn listens(pid: u32) -> Vec<String> {
    let (all, process) = (sockets(), format!("pid={pid},"));
    let own = all.lines().filter(|line| line.contains(&process));
    own.map(|line| line.split_whitespace().nth(3).unwrap().to_owned())
        .collect()
}

#[test]
fn by_default_nothing_listens() {
    let program = Program::new();
    let mut child = program
        .command("train -n 2 --epochs 50 --run-dir run", "slow:20")
        .spawn()
        .unwrap();
    let events = program.path("run/events.jsonl");
    until(|| {
        fs::read_to_string(&events)
            .ok()
            .filter(|t| t.contains("\"step\""))
    })
    .unwrap();
    let server = server_of(child.id()).unwrap();
    for pid in [child.id(), server] {
        assert_eq!(listens(pid), [""; 0]);
    }
    for pid in [child.id(), server] {
        let _ = Command::new("kill")
            .args(["-s", "KILL", &pid.to_string()])
            .status();
    }
    child.wait().unwrap();
    // Who wants to be reached says where, and listens there only.
    let run = Listening::start("trouble", "-n 1 --epochs 50", "slow:20");
    let [supervisor, server] = run.processes();
    assert_eq!(listens(supervisor), [""; 0]);
    assert_eq!(listens(server), [run.address()]);
}

#[test]
fn workers_on_hosts_open_no_port_that_others_reach() {
    let test = "workers_on_hosts_open_no_port_that_others_reach";
    let Some(lab) = Lab::up(test, 1) else { return };
    let mut run = Watched::start(&lab, "-H h1:1 --epochs 50 --trouble slow:20");
    run.wait_for_steps(1);
    let server = server_of(run.pid()).unwrap();
    for pid in [run.pid(), server] {
        assert_eq!(listens(pid), [""; 0]);
    }
    let there = on(&lab, "h1", "ss -ltnH");
    let there = String::from_utf8(there.stdout).unwrap();
    let sockets = there
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3));
    for socket in sockets {
        let own = socket.starts_with("127.0.0.1:") || socket.starts_with("[::1]:");
        assert!(own || socket.ends_with(":22"), "{there}");
    }
}

/// Bytes from `/proc/PID/status`.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

fn files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Steps of a run in a second.
fn pace(run: &Listening) -> f64 {
    let (before, started) = (run.steps(), Instant::now());
    thread::sleep(Duration::from_secs(2));
    (run.steps() - before) as f64 / started.elapsed().as_secs_f64()
}

/// Says this and waits for the end of the connection.
fn says(address: &str, bytes: &[u8]) -> Duration {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(2 * ADMISSION)).unwrap();
    let _ = stream.write_all(bytes);
    let mut rest = Vec::new();
    // An error is as good an end, but one of patience.
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_ne!(
            error.kind(),
            std::io::ErrorKind::WouldBlock,
            "it is never closed"
        );
    }
    started.elapsed()
}

/// One byte at a time, as long as anybody listens.
fn trickles(address: &str, bytes: &[u8]) -> Duration {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let mut bytes = bytes.iter().cycle();
    while started.elapsed() < 2 * ADMISSION {
        let byte = [*bytes.next().unwrap()];
        let ended = |result: std::io::Result<usize>| match result {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
        };
        if stream.write_all(&byte).is_err() || ended(stream.read(&mut [0; 64])) {
            return started.elapsed();
        }
    }
    panic!("it is never closed");
}

fn refusals(run: &Listening) -> Vec<String> {
    let refusal = |event: &Event| match event {
        Event::Warning { message } if message.starts_with("refused a connection") => {
            Some(message.clone())
        }
        _ => None,
    };
    run.events().iter().filter_map(refusal).collect()
}

fn layout() -> Arc<Layout> {
    Arc::clone(&Words::new(crate::equivalence::options()).manifest().layout)
}

#[test]
fn strangers_get_nowhere_and_cost_nothing() {
    let mut run = Listening::start("trouble", "-n 1 --epochs 200", "slow:10");
    run.wait_for("a step", |e| matches!(e, Event::Step(_)).then_some(()));
    let [_, server] = run.processes();
    let address = run.address();
    let alone = pace(&run);
    let (memory, open) = (resident(server), files(server));

    // More connections at once than there is room for, none of which says anything.
    let crowd: Vec<_> = (0..MOST_STRANGERS + 100)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    let closed = until(|| {
        let closed = crowd.iter().filter(|stream| {
            stream.set_nonblocking(true).unwrap();
            matches!((&mut &**stream).read(&mut [0]), Ok(0))
        });
        Some(closed.count()).filter(|&closed| closed >= 100)
    });
    assert!(closed.expect("they are all let in") < MOST_STRANGERS);
    assert!(
        files(server) <= open + MOST_STRANGERS + 8,
        "{}",
        files(server)
    );
    let crowded = pace(&run);
    assert!(
        resident(server) < memory + (64 << 20),
        "{}",
        resident(server)
    );
    // Their time is up: the door is free again.
    let (open_again, few) = (
        until(|| (files(server) <= open + 4).then_some(())),
        files(server),
    );
    assert!(open_again.is_some(), "{few} files are still open");
    drop(crowd);

    // Whatever is said without an identity leads nowhere.
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut garbage = vec![0; 1 << 20];
    random.fill_bytes(&mut garbage);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // The head of a TLS record that promises 16 KiB, and no more than its beginning.
    let promise = [&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc], &garbage[..100]].concat();
    let all = [garbage, preface, b"GET / HTTP/1.1\r\n\r\n".to_vec()];
    let patience = ADMISSION + Duration::from_secs(5);
    thread::scope(|scope| {
        for bytes in &all {
            scope.spawn(|| assert!(says(&address, bytes) < patience));
        }
        scope.spawn(|| assert!(says(&address, &promise) < patience));
        scope.spawn(|| assert!(trickles(&address, &promise) < patience));
        scope.spawn(|| assert!(trickles(&address, b"P") < patience));
    });
    let told = refusals(&run);
    assert!(
        told.iter().any(|m| m.contains("too many connections")),
        "{told:?}"
    );
    assert!(
        told.iter().all(|m| m.contains("from 127.0.0.1: ")),
        "{told:?}"
    );
    let counted = |message: &String| {
        let words = message.rsplit_once("; ").unwrap().1;
        words.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    assert!(told.len() < 12, "{told:?}");
    assert!(counted(told.last().unwrap()) >= MOST_STRANGERS, "{told:?}");
    assert!(
        resident(server) < memory + (64 << 20),
        "{}",
        resident(server)
    );

    // A sleeping task is hardly in need of the processor: it goes on as if nothing were.
    assert!(crowded > alone / 2.0, "{crowded} steps/s, {alone} before");
    finished(&run.end());
    assert_each_batch_once(&run.run(), 200, 20);
}

#[test]
fn papers_and_token_must_be_the_runs_own() {
    let run = Listening::start("trouble", "-n 1 --epochs 100000", "slow:5");
    let runtime = Runtime::new().unwrap();
    let endpoint = &run.invitation.endpoint;
    let join = |endpoint: &Endpoint| {
        let client = runtime.block_on(Client::open(endpoint))?;
        runtime.block_on(client.join("h9/0", &layout())).map(|_| ())
    };
    // Of another run: its authority is nobody here.
    let (_, foreign) = Identity::for_a_run().unwrap();
    let identity = Some(foreign);
    let result = join(&Endpoint {
        identity,
        ..endpoint.clone()
    });
    assert!(
        matches!(&result, Err(LinkError::OtherServer { reason, .. }) if reason.contains("another run")),
        "{result:?}"
    );
    // A server shows one, too; whoever has none is not spoken to.
    let plain = endpoint.address.replace("https://", "http://");
    let result = join(&Endpoint {
        address: plain,
        identity: None,
        ..endpoint.clone()
    });
    assert!(result.is_err());
    // With the right identity and a wrong token.
    let token = Token::fresh();
    match join(&Endpoint {
        token,
        ..endpoint.clone()
    }) {
        Err(error @ LinkError::Refused { .. }) => {
            assert!(error.to_string().contains("wrong token"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    // What was said once is no key: a Join that was good, again, from somewhere else.
    runtime.block_on(async {
        let mut first = client(endpoint).await;
        let nonce = nonce(&mut first).await;
        let request = join_request(&endpoint.token, &nonce, "h9/0");
        first.join(request.clone()).await.unwrap();
        let mut second = client(endpoint).await;
        let again = second.join(request).await;
        assert_refused(again, Code::Unauthenticated, "nonce");
    });
    let refused = run.wait_for("a word of it", |event| match event {
        Event::Warning { message } if message.contains("refused a connection") => {
            Some(message.clone())
        }
        _ => None,
    });
    assert!(refused.contains("no TLS handshake"), "{refused}");
    let joined =
        |event: &Event| matches!(event, Event::WorkerJoined { name, .. } if name.starts_with("h9"));
    assert!(!run.events().iter().any(joined), "a stranger is a worker");
}

/// Bytes of a whole conversation, heard on the way and said again, are worth nothing.
#[test]
fn a_conversation_that_was_overheard_cannot_be_held_again() {
    let run = Listening::start("trouble", "-n 1 --epochs 100000", "slow:5");
    let runtime = Runtime::new().unwrap();
    let server = run.address();
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let between = door.local_addr().unwrap();
    let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let ears = Arc::clone(&heard);
    let target = server.clone();
    thread::spawn(move || {
        for client in door.incoming() {
            let number = ears.lock().unwrap().len();
            ears.lock().unwrap().push(Vec::new());
            let mut client = client.unwrap();
            let mut server = TcpStream::connect(&target).unwrap();
            let (mut back, mut forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut forth);
                let _ = forth.shutdown(Shutdown::Both);
            });
            let ears = Arc::clone(&ears);
            thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = client.read(&mut buffer) {
                    ears.lock().unwrap()[number].extend_from_slice(&buffer[..read]);
                    if server.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    let endpoint = Endpoint {
        address: format!("https://{between}"),
        ..run.invitation.endpoint.clone()
    };
    let client = runtime.block_on(Client::open(&endpoint)).unwrap();
    let link = runtime.block_on(client.join("h9/0", &layout())).unwrap();
    let number = link.worker();
    let joined = |event: &Event| match event {
        Event::WorkerJoined { worker, .. } if *worker >= number => Some(*worker),
        _ => None,
    };
    assert_eq!(run.wait_for("the join", joined), number);
    drop(link);
    let conversations = heard.lock().unwrap().clone();
    assert!(conversations.iter().any(|bytes| bytes.len() > 1000));
    for bytes in conversations {
        assert!(says(&server, &bytes) < ADMISSION + Duration::from_secs(5));
    }
    let events = run.events();
    assert_eq!(
        events.iter().filter_map(joined).collect::<Vec<_>>(),
        [number]
    );
}

/// All files below a folder.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let (folders, mut files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| below(folder)));
    files
}

fn contains(bytes: &[u8], words: &str) -> bool {
    bytes
        .windows(words.len())
        .any(|window| window == words.as_bytes())
}

/// Processes whose arguments or environment have these words in them.
fn exposing(words: &str) -> Vec<String> {
    let mut exposing = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        for what in ["cmdline", "environ"] {
            // A process may be gone, or somebody else's.
            let file = entry.path().join(what);
            if fs::read(&file).is_ok_and(|bytes| contains(&bytes, words)) {
                exposing.push(file.display().to_string());
            }
        }
    }
    exposing
}

/// Nothing secret stands in a run's files but in the two that nobody else can read.
fn assert_kept(run: &Path, secrets: &[String]) {
    let hidden = ["secrets.json", "invitation"];
    let files = below(run);
    for file in &files {
        let name = file.file_name().unwrap().to_str().unwrap();
        if hidden.contains(&name) {
            let mode = fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
            continue;
        }
        let bytes = fs::read(file).unwrap();
        for secret in secrets {
            assert!(!contains(&bytes, secret), "{} tells it", file.display());
        }
    }
    assert!(files.len() > 3, "{files:?}");
}

/// The token, and the middle of each key.
fn secrets(run: &Path) -> Vec<String> {
    let text = fs::read_to_string(run.join("secrets.json")).unwrap();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let key = |side: &str| {
        let pem = all[side]["key"].as_str().unwrap();
        pem.lines().nth(1).unwrap().to_owned()
    };
    let token = all["token"].as_str().unwrap().to_owned();
    assert_eq!(token.len(), 64);
    vec![token, key("server"), key("worker")]
}

#[test]
fn secrets_are_nowhere_to_be_read() {
    let args = "-n 1 --epochs 30 -v --print-every 1";
    let mut run = Listening::start("trouble", args, "slow:10");
    let secrets = secrets(&run.run());
    assert_eq!(
        secrets[0],
        words_of(&run.invitation.endpoint.token).as_str().unwrap()
    );
    // As the line that was printed does it.
    let mut worker = run.program.command("worker -n 1", "slow:10");
    let file = fs::File::open(run.run().join("invitation")).unwrap();
    let worker = worker.stdin(file).spawn().unwrap();
    run.wait_for("a worker from elsewhere", |event| match event {
        Event::WorkerJoined { name, .. } if !name.starts_with("local") => Some(()),
        _ => None,
    });
    for secret in &secrets {
        assert_eq!(exposing(secret), [""; 0]);
    }
    let said = [run.end(), crate::program::end(worker)];
    for output in &said {
        finished(output);
        let (out, err) = words(output);
        for secret in &secrets {
            assert!(
                !out.contains(secret) && !err.contains(secret),
                "{out}\n{err}"
            );
        }
    }
    assert_kept(&run.run(), &secrets);
}

#[test]
fn secrets_travel_to_hosts_through_pipes() {
    let test = "secrets_travel_to_hosts_through_pipes";
    let Some(lab) = Lab::up(test, 1) else { return };
    let mut run = Watched::start(&lab, "-H h1:1 --epochs 50 -v --trouble slow:20");
    run.wait_for_steps(1);
    let secrets = secrets(&run.run());
    for secret in &secrets {
        assert_eq!(exposing(secret), [""; 0]);
    }
    assert_kept(&run.run(), &secrets);
    let cache = below(&lab.cache("h1"));
    assert!(!cache.is_empty());
    for file in cache.iter().filter(|file| file.is_file()) {
        let bytes = fs::read(file).unwrap();
        assert!(
            !secrets.iter().any(|secret| contains(&bytes, secret)),
            "{}",
            file.display()
        );
    }
}
