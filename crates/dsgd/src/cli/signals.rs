//! Ctrl-C; SIGTERM, which batch systems and clouds send before they kill; SIGHUP, of a terminal that goes.

use std::fs;
use std::io;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use dsgd_engine::training::Stopper;

/// Signals within it are one wish: a service manager, or `pkill`, sends to the supervisor and to the server,
/// and the supervisor passes its own on.
const ONE_WISH: Duration = Duration::from_millis(250);

/// Before the run has begun, a signal ends the process, after a last act. Then the first one lets the run save
/// and stop, the second one ends the process at once. What is returned holds the exit status that the first
/// one asks for, and 0 before there is one.
pub(super) fn on_interrupt(
    stopper: Stopper,
    begun: Arc<AtomicBool>,
    mut last_act: impl FnMut() + Send + 'static,
    say: impl Fn() + Send + 'static,
) -> io::Result<Arc<AtomicI32>> {
    let first = Arc::<AtomicI32>::default();
    let asked = Arc::clone(&first);
    on_signal(move |status| {
        if !begun.load(Ordering::Relaxed) {
            last_act();
            exit(status);
        }
        if asked.swap(status, Ordering::Relaxed) != 0 || !stopper.stop() {
            exit(status);
        }
        say();
    })?;
    Ok(first)
}

/// The first signal sets a flag, the second one ends the process at once. So does the first one as
/// long as nobody would look at the flag; `early` says what then is the exit status.
pub(super) fn set_on_signal(
    flag: Arc<AtomicBool>,
    watched: Arc<AtomicBool>,
    early: impl Fn(i32) -> i32 + Send + 'static,
) -> io::Result<()> {
    on_signal(move |status| {
        if !watched.load(Ordering::Relaxed) {
            exit(early(status));
        }
        if flag.swap(true, Ordering::Relaxed) {
            exit(status);
        }
    })
}

/// Calls with the exit status that a shell expects of who is ended by that signal.
pub(super) fn on_signal(mut act: impl FnMut(i32) + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = if is_ignored(SignalKind::hangup()) {
        None
    } else {
        Some(signal(SignalKind::hangup())?)
    };
    drop(guard);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let mut last: Option<Instant> = None;
                loop {
                    let status = tokio::select! {
                        _ = interrupt.recv() => 130,
                        _ = terminate.recv() => 143,
                        () = received(&mut hang_up) => 129,
                    };
                    if last.is_none_or(|last| last.elapsed() > ONE_WISH) {
                        last = Some(Instant::now());
                        act(status);
                    }
                }
            });
        })?;
    Ok(())
}

/// Waits for ever where nobody listens.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether whoever started this process wants it to ignore that signal, as nohup does.
fn is_ignored(signal: SignalKind) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or(0) >> (signal.as_raw_value() - 1) & 1 == 1
}
