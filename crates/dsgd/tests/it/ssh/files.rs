//! Files that travel to hosts and home, and programs that run there.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dsgd_engine::ssh::{Ended, Object, Presence, Remote, SshError, Stream, TransferLog, send_all};

use super::Lab;
use crate::program::until;

/// A file with bytes that cannot be packed.
fn data(lab: &Lab, name: &str, bytes: usize) -> Object {
    let path = lab.file(name);
    let content: Vec<u8> = (0..bytes as u64)
        .map(|n| {
            let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            ((mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8
        })
        .collect();
    fs::write(&path, content).unwrap();
    Object::of(&path).unwrap()
}

/// Where an object lies on a host, seen from here.
fn place(lab: &Lab, host: &str, object: &Object) -> PathBuf {
    lab.cache(host).join("objects").join(&object.hash)
}

fn assert_there(lab: &Lab, host: &str, object: &Object) {
    let place = place(lab, host, object);
    assert!(fs::read(&place).unwrap() == fs::read(&object.path).unwrap());
    // The script there tidies up after its last word.
    let tidy = until(|| {
        let objects = fs::read_dir(place.parent().unwrap()).unwrap();
        let mut names = objects.map(|e| e.unwrap().file_name());
        let left = |name: std::ffi::OsString| {
            let name = name.to_string_lossy();
            name.starts_with(&object.hash) && *name != object.hash
        };
        (!names.any(left)).then_some(())
    });
    tidy.expect("nothing else of the object is left");
}

async fn presence(remote: &Remote, object: &Object) -> Presence {
    remote.missing(std::slice::from_ref(object)).await.unwrap()[0]
}

#[tokio::test]
async fn a_file_is_sent_once() {
    let Some(lab) = Lab::up("a_file_is_sent_once", 2) else {
        return;
    };
    let objects = vec![data(&lab, "a", 3_000_000), data(&lab, "b", 0)];
    let remotes = [lab.login("h1").await, lab.login("h2").await];
    let jobs = remotes.clone().map(|r| (r, objects.clone())).to_vec();
    for result in send_all(jobs, TransferLog::Off).await {
        result.unwrap();
    }
    for (remote, host) in remotes.iter().zip(["h1", "h2"]) {
        for object in &objects {
            assert_there(&lab, host, object);
            assert_eq!(presence(remote, object).await, Presence::Whole);
        }
    }
    let place = place(&lab, "h1", &objects[0]);
    let metadata = fs::metadata(&place).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    let written = metadata.modified().unwrap();
    remotes[0].send(&objects[0], |_| {}).await.unwrap();
    assert_eq!(fs::metadata(&place).unwrap().modified().unwrap(), written);
    // One that is too short is none.
    fs::write(&place, "short").unwrap();
    remotes[0].send(&objects[0], |_| {}).await.unwrap();
    assert_there(&lab, "h1", &objects[0]);
}

#[tokio::test]
async fn what_was_cut_off_goes_on_where_it_stopped() {
    let Some(lab) = Lab::up("what_was_cut_off_goes_on_where_it_stopped", 1) else {
        return;
    };
    let object = data(&lab, "a", 40_000_000);
    lab.does("rate 1 50");
    let remote = lab.login("h1").await;
    let sent = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&sent);
    let (sender, sending) = (remote.clone(), object.clone());
    let task = tokio::spawn(async move {
        let progress = |bytes| seen.store(bytes, Ordering::Relaxed);
        sender.send(&sending, progress).await
    });
    while sent.load(Ordering::Relaxed) < 6_000_000 && !task.is_finished() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    lab.does("cut 1");
    let error = task.await.unwrap().unwrap_err();
    assert!(matches!(error, SshError::Lost { .. }), "{error:?}");
    assert!(!error.is_permanent());
    lab.does("heal 1");
    lab.does("rate 1 off");
    // The other end does not know yet that the connection is gone.
    let remote = lab.login("h1").await;
    let Presence::Part(part) = presence(&remote, &object).await else {
        panic!("nothing is left");
    };
    assert!(part > 1_000_000, "{part}");
    let first = AtomicU64::new(u64::MAX);
    let progress = |bytes| {
        first.fetch_min(bytes, Ordering::Relaxed);
    };
    remote.send(&object, progress).await.unwrap();
    assert!(first.load(Ordering::Relaxed) >= part);
    assert_there(&lab, "h1", &object);
}

/// The same few lines again and again.
fn text(lab: &Lab, name: &str, bytes: usize) -> Object {
    let path = lab.file(name);
    let lines = (0..).flat_map(|n: u64| format!("pair {} of words\n", n % 1000).into_bytes());
    fs::write(&path, lines.take(bytes).collect::<Vec<u8>>()).unwrap();
    Object::of(&path).unwrap()
}

/// Nothing is assumed of a host: where there is no gzip, or one that does not do what it should, the file
/// arrives all the same.
#[tokio::test]
async fn what_gets_smaller_travels_packed_to_hosts_that_can_unpack_it() {
    let test = "what_gets_smaller_travels_packed_to_hosts_that_can_unpack_it";
    let Some(lab) = Lab::up(test, 3) else { return };
    // 8 s for each MB as it is.
    lab.does("rate 1 1");
    let remote = lab.login("h1").await;
    let words = text(&lab, "words", 3_000_000);
    let wire = remote.send(&words, |_| {}).await.unwrap();
    assert!(wire < 500_000, "{wire}");
    assert_there(&lab, "h1", &words);
    lab.does("rate 1 off");
    let noise = data(&lab, "noise", 3_000_000);
    let wire = remote.send(&noise, |_| {}).await.unwrap();
    assert!((3_000_000..3_100_000).contains(&wire), "{wire}");
    assert_there(&lab, "h1", &noise);

    let none = "#!/bin/sh\nexit 127";
    // It passes for gzip where little is asked of it.
    let wrong = "#!/bin/sh\nif [ $1 = -c ]; then cat; else head -c 1000; fi";
    for (host, gzip) in [("h2", none), ("h3", wrong)] {
        let remote = lab.login(host).await;
        let exchange = format!(
            "printf '%s\\n' '{gzip}' >gzip && chmod 755 gzip && mount --bind gzip $(command -v gzip)"
        );
        let mut exchanged = remote.run(&exchange).await.unwrap();
        assert!(matches!(exchanged.wait().await, Ended::Status(0)));
        let wire = remote.send(&words, |_| {}).await.unwrap();
        assert_eq!(wire, words.bytes, "{host}");
        assert_there(&lab, host, &words);
    }
}

/// A script that says each second how little has arrived lives, but nothing moves.
#[tokio::test]
async fn what_does_not_arrive_is_given_up_though_its_script_lives() {
    let test = "what_does_not_arrive_is_given_up_though_its_script_lives";
    let Some(lab) = Lab::up(test, 1) else { return };
    let remote = lab.login("h1").await;
    // It passes for gzip where it is asked for one letter.
    let stuck =
        r#"if [ $1 = -c ]; then cat; else read -r x; [ "$x" = x ] && echo x || exec sleep 90; fi"#;
    let exchange = format!(
        "printf '#!/bin/sh\n%s\n' '{stuck}' >gzip && chmod 755 gzip && mount --bind gzip $(command -v gzip)"
    );
    let mut exchanged = remote.run(&exchange).await.unwrap();
    assert!(matches!(exchanged.wait().await, Ended::Status(0)));
    let words = text(&lab, "words", 3_000);
    let sent = tokio::time::timeout(Duration::from_secs(60), remote.send(&words, |_| {}));
    let error = sent.await.expect("it is given up").unwrap_err();
    assert!(matches!(error, SshError::Stalled { .. }), "{error:?}");
}

#[tokio::test]
async fn a_spoilt_part_is_sent_anew() {
    let Some(lab) = Lab::up("a_spoilt_part_is_sent_anew", 1) else {
        return;
    };
    let object = data(&lab, "a", 1_000_000);
    let objects = lab.cache("h1").join("objects");
    fs::create_dir_all(&objects).unwrap();
    for (number, bytes) in [(1, 400_000), (2, 700_000), (3, 2_000_000)] {
        let part = objects.join(format!("{}.{number}.part", object.hash));
        fs::write(part, vec![7; bytes]).unwrap();
    }
    // The lock of one who is no more.
    let lock = objects.join(format!("{}.lock", object.hash));
    fs::create_dir(&lock).unwrap();
    fs::write(lock.join("by"), "99999999 somebody h1\n").unwrap();
    let remote = lab.login("h1").await;
    remote.send(&object, |_| {}).await.unwrap();
    assert_there(&lab, "h1", &object);
    // What changes while it is sent is said.
    let changed = Object {
        hash: "0".repeat(64),
        ..object
    };
    let error = remote.send(&changed, |_| {}).await.unwrap_err();
    assert!(matches!(error, SshError::Corrupt { .. }), "{error:?}");
    assert!(!place(&lab, "h1", &changed).exists());
}

#[tokio::test]
async fn two_senders_of_a_file_do_no_harm() {
    let Some(lab) = Lab::up("two_senders_of_a_file_do_no_harm", 1) else {
        return;
    };
    let object = data(&lab, "a", 8_000_000);
    lab.does("rate 1 100");
    let alias = format!("Host again\n  HostName {}\n", address(&lab));
    let config = fs::read_to_string(lab.file("ssh_config")).unwrap();
    let settings = config.split_once('\n').unwrap().1;
    fs::write(lab.file("ssh_config"), format!("{config}{alias}{settings}")).unwrap();
    let remotes = [lab.login("h1").await, lab.login("again").await];
    let jobs = remotes.map(|remote| (remote, vec![object.clone()]));
    for result in send_all(jobs.to_vec(), TransferLog::Off).await {
        result.unwrap();
    }
    assert_there(&lab, "h1", &object);
}

fn address(lab: &Lab) -> String {
    let known = fs::read_to_string(lab.file("known_hosts")).unwrap();
    known.split(' ').next().unwrap().to_owned()
}

/// `/bin/sh` as an object that can be started.
async fn shell(remote: &Remote) -> Object {
    let object = Object::program(Path::new("/bin/sh")).unwrap();
    remote.send(&object, |_| {}).await.unwrap();
    object
}

#[tokio::test]
async fn a_program_has_words_input_output_and_an_end() {
    let Some(lab) = Lab::up("a_program_has_words_input_output_and_an_end", 1) else {
        return;
    };
    let remote = lab.login("h1").await;
    let object = shell(&remote).await;
    let mode = fs::metadata(place(&lab, "h1", &object))
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
    let script = "read -r first; echo \"<$first> <$1>\"; echo e >&2; cat; exit 7";
    let args = ["-c", script, "name", "it's $HOME; `x` \"y\" \\"];
    let mut running = remote.start(&object, &args, "secret").await.unwrap();
    let out = (
        Stream::Out,
        r#"<secret> <it's $HOME; `x` "y" \>"#.to_owned(),
    );
    let err = (Stream::Err, "e".to_owned());
    let mut lines = [running.line().await.unwrap(), running.line().await.unwrap()];
    lines.sort_by_key(|(stream, _)| *stream == Stream::Err);
    assert_eq!(lines, [out, err]);
    assert!(running.write_line("more").await);
    assert_eq!(running.line().await, Some((Stream::Out, "more".to_owned())));
    running.close();
    assert_eq!(running.line().await, None);
    assert!(matches!(running.wait().await, Ended::Status(7)));

    let mut running = remote
        .start(&object, &["-c", "kill -9 $$"], "")
        .await
        .unwrap();
    assert!(matches!(running.wait().await, Ended::Killed));

    // The end of us is the end of its input.
    let file = lab.home("h1").join("ended");
    let running = remote
        .start(&object, &["-c", "cat; echo > ended"], "")
        .await;
    drop(running.unwrap());
    let ended = crate::program::until(|| file.exists().then_some(()));
    assert!(ended.is_some());
}

#[tokio::test]
async fn a_full_disk_is_reported_before_and_after() {
    let Some(lab) = Lab::up("a_full_disk_is_said_before_and_after", 1) else {
        return;
    };
    let remote = lab.login("h1").await;
    let mount = "mkdir -p .cache && mount -t tmpfs -o size=2m tmpfs .cache";
    let mut mounted = remote.run(mount).await.unwrap();
    assert!(matches!(mounted.wait().await, Ended::Status(0)));
    let full = |error: SshError| {
        let words = error.to_string();
        assert!(matches!(error, SshError::DiskFull { .. }), "{words}");
        assert!(
            words.contains("MB are missing in /root/.cache/dsgd: free space"),
            "{words}"
        );
    };
    let progress = |_| panic!("what cannot fit is not begun");
    let large = data(&lab, "a", 4_000_000);
    full(remote.send(&large, progress).await.unwrap_err());
    // Somebody else takes the space meanwhile.
    lab.does("rate 1 5");
    let fits = data(&lab, "b", 1_900_000);
    let fill = "cd .cache; echo; until [ -s \"$(ls dsgd/objects/*.part)\" ]; do :; done 2>/dev/null; \
                head -c 1500000 /dev/zero >filler";
    let mut filling = remote.run(fill).await.unwrap();
    filling.line().await;
    full(remote.send(&fits, |_| {}).await.unwrap_err());
}

#[tokio::test]
async fn what_is_fetched_lies_where_it_was_asked_for() {
    let Some(lab) = Lab::up("what_is_fetched_lies_where_it_was_asked_for", 1) else {
        return;
    };
    let remote = lab.login("h1").await;
    let runs = lab.home("h1").join("runs");
    fs::create_dir_all(runs.join("a b/empty")).unwrap();
    let content: Vec<u8> = (0..300_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 8) as u8)
        .collect();
    fs::write(runs.join("a b/it's \n ü"), &content).unwrap();
    fs::write(runs.join("none"), "").unwrap();
    let odd = OsStr::from_bytes(b"\xff\x1b]0;t\x07\n");
    fs::write(runs.join(odd), "x").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", runs.join("link")).unwrap();
    std::os::unix::fs::symlink("a b\n", runs.join("a b/to nothing")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(runs.join("socket")).unwrap();
    let to = lab.file("fetched");
    let fetched = remote.fetch("~/runs", &to).await.unwrap();
    assert_eq!((fetched.files, fetched.bytes), (3, 300_001));
    assert_eq!(fetched.links, 2);
    assert!(fs::read(to.join("runs/a b/it's \n ü")).unwrap() == content);
    assert!(to.join("runs/none").is_file() && to.join("runs/a b/empty").is_dir());
    assert_eq!(fs::read(to.join("runs").join(odd)).unwrap(), b"x");
    for (link, target) in [("link", "/etc/passwd"), ("a b/to nothing", "a b\n")] {
        let copied = fs::read_link(to.join("runs").join(link)).unwrap();
        assert_eq!(copied, Path::new(target));
    }
    assert_eq!(
        fetched.left_out,
        ["runs/socket: it is no file, folder or link"]
    );

    // What is here stays as it is, and is named.
    fs::write(to.join("runs/none"), "mine").unwrap();
    let again = remote.fetch("runs", &to).await.unwrap();
    assert_eq!((again.files, again.links, again.missed), (0, 0, 6));
    assert_eq!(fs::read(to.join("runs/none")).unwrap(), b"mine");
    let named = |name: &str| again.left_out.iter().any(|what| what.starts_with(name));
    assert!(named("runs/none: ") && named("runs/link: "), "{again:?}");
    assert!(
        !again
            .left_out
            .iter()
            .any(|what| what.contains(char::is_control))
    );
    remote.fetch("runs/none", &to).await.unwrap();
    assert!(to.join("none").is_file());
    let nothing = remote.fetch("nowhere", &to).await.unwrap_err();
    assert!(
        nothing
            .to_string()
            .contains("no such file or folder: nowhere"),
        "{nothing}"
    );

    // A host that answers whatever it likes.
    for (answer, wrong) in [
        ("f 3 7\\n../../xabc", "../../x"),
        ("f 3 6\\n/tmp/xabc", "/tmp/x"),
        ("f 3 11\\n./a/../../xabc", "a/../../x"),
        ("d 0 7\\n../../x", "../../x"),
        ("l 4 7\\n../../x/etc", "../../x"),
    ] {
        let lie = format!("echo @dsgd@; printf '{answer}'; exit 0\n");
        fs::write(lab.home("h1").join(".bashrc"), lie).unwrap();
        let error = remote.fetch("runs", &to).await.unwrap_err();
        let escapes = matches!(&error, SshError::Escape { path, .. } if path == wrong);
        assert!(escapes, "{error:?}");
    }
    for nonsense in [
        "x",
        "end\\n",
        "f 1 x",
        "f -1 1\\nab",
        "f 1 0\\n",
        "f 1 99999\\nab",
        "f 9 1\\nab",
        "l 99999 1\\nab",
        "l 0 1\\na",
        "d 1 1\\nab",
        "z 0 1\\na",
    ] {
        let lie = format!("echo @dsgd@; printf '{nonsense}'; exit 0\n");
        fs::write(lab.home("h1").join(".bashrc"), lie).unwrap();
        let error = remote.fetch("runs", &to).await.unwrap_err();
        assert!(!error.is_permanent(), "{error:?}");
    }
    // A link that it made leads nowhere.
    let lie = "echo @dsgd@; printf 'l 4 3\\nout/tmpf 3 5\\nout/xabc'; exit 0\n";
    fs::write(lab.home("h1").join(".bashrc"), lie).unwrap();
    let error = remote.fetch("runs", &to).await.unwrap_err();
    assert!(error.to_string().contains("no folder"), "{error}");
    assert_eq!(fs::read_dir(&to).unwrap().count(), 3);
}
