//! Faults that nobody mends by waiting: the host's part is over at once, with the remedy, once; and where no
//! host is left that can get better, so is the run.

use std::fs;
use std::time::{Duration, Instant};

use dsgd_core::event::Event;

use crate::elsewhere::{Watched, assert_nobody_is_left, on};
use crate::program::{failed, finished, until, words};
use crate::runs::assert_each_batch_once;
use crate::ssh::Lab;

/// Far below `--give-up-after`, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Lets a host's sshd begin anew with one more line of configuration.
pub(crate) fn configure(lab: &Lab, host: u32, line: &str) {
    let name = format!("h{host}");
    let file = lab.file(&name).join("sshd_config");
    let rest = fs::read_to_string(&file).unwrap();
    let rest = rest
        .lines()
        .filter(|l| l.split(' ').next() != line.split(' ').next());
    let rest: Vec<_> = rest.collect();
    fs::write(&file, format!("{line}\n{}\n", rest.join("\n"))).unwrap();
    lab.does(&format!("crash {host}"));
    lab.does(&format!("boot {host}"));
    let up = || on(lab, &name, "true").status.success().then_some(());
    until(up).expect("the host is up again");
}

pub(crate) fn mount(lab: &Lab, host: &str, options: &str) {
    let mounted = on(
        lab,
        host,
        &format!("mkdir -p ~/.cache && mount -t tmpfs {options} tmpfs ~/.cache"),
    );
    assert!(mounted.status.success(), "{mounted:?}");
}

/// Every kind at once, and none that would get better.
#[test]
fn where_no_host_can_get_better_the_run_ends_at_once() {
    let test = "where_no_host_can_get_better_the_run_ends_at_once";
    let Some(lab) = Lab::up(test, 4) else { return };
    mount(&lab, "h1", "-o noexec");
    mount(&lab, "h2", "-o ro");
    configure(&lab, 3, "MaxSessions 1");
    configure(&lab, 4, "AllowStreamLocalForwarding no");
    let since = Instant::now();
    let mut run = Watched::start(&lab, "-H h1:1,h2:1,h3:1,h4:1 --examples 100");
    let output = run.end();
    let took = since.elapsed();
    assert!(took < SOON, "{took:?}");
    let error = failed(&output);
    assert!(error.contains("no worker is left"), "{error}");
    let told = String::from_utf8_lossy(&output.stdout);
    let faults = "Faults: the run failed, 4 warnings";
    assert!(told.contains(faults), "{told}");
    let warnings: Vec<_> = run.since(0).filter_map(warning).collect();
    for (host, words) in [
        ("h1", "is mounted noexec: set XDG_CACHE_HOME"),
        ("h2", "cannot be written there"),
        ("h3", "set `MaxSessions 10` in its /etc/ssh/sshd_config"),
        ("h4", "set `AllowStreamLocalForwarding yes`"),
    ] {
        let of_host = warnings
            .iter()
            .filter(|w| w.starts_with(&format!("{host}: ")));
        let of_host: Vec<_> = of_host.collect();
        assert_eq!(of_host.len(), 1, "{host}: {warnings:?}");
        assert!(of_host[0].contains(words), "{of_host:?}");
        assert!(!of_host[0].contains("trying again"), "{of_host:?}");
    }
    assert_nobody_is_left(&lab, 4);
}

fn warning(event: &Event) -> Option<&str> {
    match event {
        Event::Warning { message } => Some(message),
        _ => None,
    }
}

/// The server's process has a task that loads, those on hosts have one that does not.
#[test]
fn a_task_that_does_not_load_there_ends_the_run_with_its_words_once() {
    let test = "a_task_that_does_not_load_there_ends_the_run_with_its_words_once";
    let Some(lab) = Lab::up(test, 1) else { return };
    let mut run = Watched::start_with(&lab, "-H h1:2 --examples 100 --trouble nonsense", "slow:1");
    let since = Instant::now();
    let output = run.end();
    let took = since.elapsed();
    assert!(took < SOON, "{took:?}");
    assert!(failed(&output).contains("no worker is left"));
    let said = "no trouble of the kind \"nonsense\"";
    let told = run.since(0).filter(|event| match event {
        Event::Warning { message } => message.contains(said),
        Event::HostSaid { line, .. } => line.contains(said),
        _ => false,
    });
    assert_eq!(told.count(), 1, "{:?}", words(&output));
}

#[test]
fn a_host_that_cannot_get_better_is_left_out_and_the_others_train() {
    let test = "a_host_that_cannot_get_better_is_left_out_and_the_others_train";
    let Some(lab) = Lab::up(test, 2) else { return };
    mount(&lab, "h1", "-o noexec");
    let mut run = Watched::start(
        &lab,
        "-H h1:1,h2:1 --epochs 1 --examples 400 --trouble slow:200",
    );
    finished(&run.end());
    assert_each_batch_once(&run.run(), 1, 40);
    let warnings: Vec<_> = run.since(0).filter_map(warning).collect();
    let of_h1: Vec<_> = warnings.iter().filter(|w| w.starts_with("h1: ")).collect();
    assert_eq!(of_h1.len(), 1, "{warnings:?}");
    assert!(
        of_h1[0].contains("this host has no part in the run any more"),
        "{of_h1:?}"
    );
    assert_nobody_is_left(&lab, 2);
}
