//! `dsgd worker` by hand: what cannot work ends at once, with what to do, and Ctrl-C always counts.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{end, failed, until, words};
use crate::wire::listening::Listening;

/// Far below `--orphan-after`, for which a server that may come back is waited for.
const AT_ONCE: Duration = Duration::from_secs(20);

fn run() -> Listening {
    Listening::start("trouble", "-n 1 --epochs 100000", "slow:5")
}

/// A worker that is given this on its standard input, and these words.
fn worker(run: &Listening, invitation: &[u8], args: &str) -> Output {
    let mut command = run.program.command(&format!("worker {args}"), "");
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // One that has ended already reads nothing.
    let _ = stdin.write_all(invitation);
    drop(stdin);
    end(child)
}

/// The run's invitation, as one on another machine has it.
fn afar(run: &Listening, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut invitation = serde_json::to_value(&run.invitation).unwrap();
    invitation["local"] = Value::Null;
    change(&mut invitation);
    let mut line = serde_json::to_vec(&invitation).unwrap();
    line.push(b'\n');
    line
}

fn fails_at_once(run: &Listening, invitation: &[u8], args: &str, why: &str) {
    let started = Instant::now();
    let said = failed(&worker(run, invitation, args));
    assert!(said.contains(why), "{args}: {said}");
    assert!(
        said.contains("--join https://") || said.contains("invitation"),
        "what to do: {said}"
    );
    assert!(started.elapsed() < AT_ONCE, "{args}: {said}");
}

#[test]
fn an_address_that_is_none_is_reported_at_once() {
    let run = run();
    let invitation = afar(&run, |_| ());
    for (address, why) in [
        ("nonsense", "it must begin with https://"),
        ("https://", "it is no URL"),
        ("https://h0", "the port is missing"),
        ("https://h0:0", "the port is missing"),
        ("https://h0:70777", "the port is missing"),
        ("http://h0:7077", "it must begin with https://"),
        ("h0:7077", "it must begin with https://"),
        ("https://h0:7077/run", "there is more in it"),
        ("unix:", "the socket's path is missing"),
    ] {
        fails_at_once(&run, &invitation, &format!("--join {address}"), why);
    }
    let without = afar(&run, |invitation| {
        invitation["endpoint"]["address"] = "".into();
    });
    let why = "the invitation does not say where the server is";
    fails_at_once(&run, &without, "", why);
    fails_at_once(&run, b"", "", "an invitation is missing");
    fails_at_once(&run, b"hello\n", "", "this is no invitation");
}

#[test]
fn who_is_not_the_server_is_reported_at_once() {
    let run = run();
    let invitation = afar(&run, |_| ());
    let other = self::run();
    let join = format!("--join https://{}", other.address());
    let why = "its certificate is that of another run";
    fails_at_once(&run, &invitation, &join, why);
    for greeting in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let join = format!("--join https://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.unwrap().write_all(greeting.as_bytes());
            }
        });
        fails_at_once(
            &run,
            &invitation,
            &join,
            "it does not speak as a dsgd server does",
        );
    }
}

#[test]
fn the_first_ctrl_c_counts_before_it_has_joined() {
    let run = run();
    // It answers nothing, as a server does that is asleep.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let file = run.program.path("afar");
    std::fs::write(&file, afar(&run, |_| ())).unwrap();
    let join = format!("worker --join https://{}", listener.local_addr().unwrap());
    let mut command = run.program.command(&join, "");
    let child = command.stdin(File::open(file).unwrap()).spawn().unwrap();
    let knocked = until(|| listener.accept().ok());
    let since = Instant::now();
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", "INT", &pid]).status();
    assert!(sent.unwrap().success());
    let output = end(child);
    assert_eq!(output.status.code(), Some(130));
    let said = words(&output).1;
    assert!(said.contains("Left before it had joined"), "{said}");
    assert!(since.elapsed() < AT_ONCE);
    drop(knocked);
}
