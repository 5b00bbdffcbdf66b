//! Logging in, looking around, the way back, and what can go wrong with them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use dsgd_engine::ssh::{Control, Libc, Remote, SshError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Lab, host};
use crate::program::until;

#[tokio::test]
async fn a_host_is_looked_at() {
    let Some(lab) = Lab::up("a_host_is_looked_at", 1) else {
        return;
    };
    // Login scripts may say what they like.
    let noise = "echo Welcome; echo; echo 'pong 1 2 3'; echo oops >&2\n";
    fs::write(lab.home("h1").join(".bashrc"), noise).unwrap();
    let remote = lab.login("h1").await;
    let facts = remote.facts().await.unwrap();
    assert_eq!(facts.arch, std::env::consts::ARCH);
    assert!(matches!(facts.libc, Libc::Glibc(2, 17..)) || facts.libc == Libc::Musl);
    assert!(facts.cores >= 1 && facts.memory_bytes >= facts.available_bytes);
    assert!(facts.available_bytes > 1 << 20 && facts.free_bytes > 1 << 20);
    // The same clock, in truth.
    assert!(facts.clock_ahead_secs.abs() < 0.5, "{facts:?}");
    assert!(facts.round_trip < Duration::from_secs(1), "{facts:?}");
    assert_eq!(facts.home, "/root");
    assert_eq!(facts.cache, "/root/.cache/dsgd");
    assert!(!lab.cache("h1").exists(), "looking leaves no trace");
}

#[tokio::test]
async fn what_stands_in_the_way_is_reported_with_the_remedy() {
    let Some(lab) = Lab::up("what_stands_in_the_way_is_said_with_the_remedy", 1) else {
        return;
    };
    let hosts = lab.file("known_hosts");
    let known = fs::read_to_string(&hosts).unwrap();
    let error = async |name: &str, more: &str| {
        let started = Instant::now();
        let error = lab.try_with(name, more).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(8), "{error}");
        error
    };

    let refused = error("h1", "Port 9").await;
    assert!(matches!(refused, SshError::Refused { .. }), "{refused:?}");
    assert!(!refused.is_permanent());

    let nameless = error("no-such-host.invalid", "").await;
    assert!(
        nameless.to_string().contains("does not resolve"),
        "{nameless}"
    );
    assert!(nameless.is_permanent());

    let other = lab.file("other");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&other)
        .status();
    assert!(made.unwrap().success());
    let config = fs::read_to_string(lab.file("ssh_config")).unwrap();
    let right = lab.file("id").display().to_string();
    fs::write(
        lab.file("ssh_config"),
        config.replace(&right, &other.display().to_string()),
    )
    .unwrap();
    let denied = error("h1", "").await;
    assert!(
        denied.to_string().contains("dsgd keygen --authorize h1"),
        "{denied}"
    );
    assert!(denied.is_permanent());
    // A second key helps, and does not replace the first.
    let mut options = lab.options();
    options.identity = Some(right.clone().into());
    lab.try_connecting("h1", &options).await.unwrap();
    fs::write(lab.file("ssh_config"), config).unwrap();

    fs::write(&hosts, "").unwrap();
    let unknown = error("h1", "").await;
    assert!(
        matches!(unknown, SshError::KeyUnknown { .. }),
        "{unknown:?}"
    );
    // Whoever says "no" is heard as "new ones are let in".
    lab.try_with("h1", "StrictHostKeyChecking no")
        .await
        .unwrap();
    let learnt = fs::read_to_string(&hosts).unwrap();
    assert!(!learnt.is_empty());

    let key = fs::read_to_string(other.with_extension("pub")).unwrap();
    let address = known.split(' ').next().unwrap();
    fs::write(&hosts, format!("{address} {key}")).unwrap();
    for checking in ["yes", "no"] {
        let changed = error("h1", &format!("StrictHostKeyChecking {checking}")).await;
        let remedy = format!("`ssh-keygen -R {address} -f {}`", hosts.display());
        assert!(changed.to_string().contains(&remedy), "{changed}");
        assert!(changed.is_permanent());
    }
}

#[tokio::test]
async fn a_host_that_says_nothing_is_waited_for_in_vain_but_not_long() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let control = Control::new().unwrap();
    let mut host = host("127.0.0.1");
    host.port = Some(mute.local_addr().unwrap().port());
    let started = Instant::now();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
    let options = dsgd_engine::ssh::Options {
        config_file: Some("/dev/null".into()),
        ..Default::default()
    };
    let error = Remote::connect(&host, &options, &control, deadline).await;
    let error = error.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(matches!(error, SshError::TimedOut { .. }), "{error:?}");
    assert!(!error.is_permanent());
    let folder = control.path().to_owned();
    drop(control);
    assert!(!folder.exists());
    assert_eq!(naming(&folder.display().to_string()), Vec::<String>::new());
}

#[tokio::test]
async fn a_socket_there_leads_here_and_is_for_its_user_alone() {
    let Some(lab) = Lab::up("a_socket_there_leads_here_and_is_for_its_user_alone", 1) else {
        return;
    };
    let remote = lab.login("h1").await;
    let local = lab.control.file("server");
    let listener = tokio::net::UnixListener::bind(&local).unwrap();
    let run = lab.cache("h1").join("run");
    let mark = mark(&lab, "h1").await;
    // Of an earlier run, and of another host with the same home folder.
    let [stale, other] = [mark.as_str(), "12345"].map(|of| run.join(format!("{of}-0.sock")));
    for path in [&stale, &other] {
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    }

    let path = remote.forward(&local).await.unwrap();
    assert!(path.starts_with("/root/.cache/dsgd/run/"), "{path}");
    assert!(!stale.exists(), "nobody listened there");
    assert!(other.exists(), "who listens there is not known here");
    let seen = lab.home("h1").join(path.trim_start_matches("/root/"));
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&seen), mode(&run)), (0o600, 0o700));

    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
    });
    // The hosts share their files with this machine, and so their sockets.
    let mut client = tokio::net::UnixStream::connect(&seen).await.unwrap();
    client.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    client.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");
    echo.await.unwrap();

    // A second one does not disturb the first.
    let second = remote.forward(&local).await.unwrap();
    assert_ne!(path, second);
    assert!(seen.exists());
}

/// What tells a host from others with the same home folder: its sockets' names begin with it.
async fn mark(lab: &Lab, host: &str) -> String {
    let remote = lab.login(host).await;
    let local = lab.control.file("nobody");
    let path = remote.forward(&local).await.unwrap();
    let name = path.rsplit('/').next().unwrap();
    name.split('-').next().unwrap().to_owned()
}

/// Two hosts with one home, as on NFS: neither takes the other's socket for one of its own.
#[tokio::test]
async fn hosts_with_one_home_leave_each_others_sockets() {
    let test = "hosts_with_one_home_leave_each_others_sockets";
    let Some(lab) = Lab::up(test, 2) else { return };
    lab.does("crash 2");
    fs::remove_dir_all(lab.home("h2")).unwrap();
    std::os::unix::fs::symlink("../h1/root", lab.home("h2")).unwrap();
    lab.does("boot 2");
    let up = || std::net::TcpStream::connect(address_of(&lab, "h2")).ok();
    until(up).expect("the host is up again");
    let remotes = [lab.login("h1").await, lab.login("h2").await];
    let local = lab.control.file("server");
    let mut paths = Vec::new();
    for remote in remotes.iter().chain(&remotes) {
        paths.push(remote.forward(&local).await.unwrap());
    }
    for path in paths {
        let seen = lab.home("h1").join(path.trim_start_matches("/root/"));
        assert!(seen.exists(), "{path}");
    }
}

fn address_of(lab: &Lab, host: &str) -> String {
    let known = fs::read_to_string(lab.file("known_hosts")).unwrap();
    let number: usize = host.trim_start_matches('h').parse().unwrap();
    let line = known.lines().nth(number - 1).unwrap();
    format!("{}:22", line.split(' ').next().unwrap())
}

/// What login scripts print, and what they start: it works, or is named.
#[tokio::test]
async fn a_login_may_say_and_start_what_it_likes() {
    let Some(lab) = Lab::up("a_login_may_say_and_start_what_it_likes", 1) else {
        return;
    };
    let remote = lab.login("h1").await;
    let cores = remote.facts().await.unwrap().cores;
    for line in [
        "printf '\\033]0;%s\\007' \"$HOSTNAME\"",
        "echo -n 'Welcome to lab1'",
        // As zsh, and the shell of `newgrp`: it reads its commands from the input.
        "[ -n \"$ONCE\" ] || ONCE=1 exec bash",
        "export OMP_NUM_THREADS=1 OMP_THREAD_LIMIT=1",
    ] {
        fs::write(lab.home("h1").join(".bashrc"), format!("{line}\n")).unwrap();
        let facts = remote
            .facts()
            .await
            .unwrap_or_else(|e| panic!("{line}: {e}"));
        assert_eq!(facts.cores, cores, "{line}");
    }
    // As fish, which reads all of the input first.
    fs::write(lab.home("h1").join(".bashrc"), "exec cat\n").unwrap();
    let error = remote.facts().await.unwrap_err();
    assert!(matches!(error, SshError::Startup { .. }), "{error:?}");
    assert!(error.is_permanent() && error.to_string().contains("~/.bashrc"));
    let affinity = "taskset -cp 0 $$ >/dev/null 2>&1\n";
    fs::write(lab.home("h1").join(".bashrc"), affinity).unwrap();
    assert_eq!(remote.facts().await.unwrap().cores, 1);
}

#[tokio::test]
async fn a_cut_cable_is_noticed() {
    let Some(lab) = Lab::up("a_cut_cable_is_noticed", 1) else {
        return;
    };
    let remote = lab.login("h1").await;
    let mut running = remote.run("sleep 100").await.unwrap();
    lab.does("cut 1");
    let started = Instant::now();
    let ended = running.wait().await;
    assert!(
        matches!(ended, dsgd_engine::ssh::Ended::Lost(_)),
        "{ended:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
    let lost = remote.facts().await.unwrap_err();
    assert!(matches!(lost, SshError::Lost { .. }), "{lost:?}");
    assert!(lost.to_string().contains("not responding"), "{lost}");
    assert!(!lost.is_permanent());
}

/// Whatever ends this process, no connection of it stays.
#[test]
fn connections_end_with_their_process() {
    const NAME: &str = "ssh::login::connections_end_with_their_process";
    if let Ok(config) = std::env::var("CONNECT_AND_STAY") {
        return connect_and_stay(&config);
    }
    let Some(lab) = Lab::up("connections_end_with_their_process", 1) else {
        return;
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", NAME])
        .env("CONNECT_AND_STAY", lab.file("ssh_config"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut folder = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut folder).unwrap();
    let folder = folder.trim();
    assert!(folder.starts_with('/'), "{folder}");
    assert_eq!(naming(folder).len(), 2, "a master, and a client");
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = until(|| naming(folder).is_empty().then_some(()));
    assert!(gone.is_some(), "{:?}", naming(folder));
    let gone = until(|| (!std::path::Path::new(folder).exists()).then_some(()));
    assert!(gone.is_some(), "{folder} stays");
}

fn connect_and_stay(config: &str) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let control = Control::new().unwrap();
        let options = dsgd_engine::ssh::Options {
            config_file: Some(config.into()),
            ..Default::default()
        };
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        let remote = Remote::connect(&host("h1"), &options, &control, deadline).await;
        let mut running = remote.unwrap().run("sleep 100").await.unwrap();
        eprintln!("{}", control.path().display());
        running.wait().await;
    });
}

/// Command lines of processes that name something.
fn naming(what: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|p| fs::read(p.path().join("cmdline")).ok());
    let lines = lines.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    lines.filter(|line| line.contains(what)).collect()
}
