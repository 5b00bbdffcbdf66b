//! Ctrl-C, and SIGTERM, which batch systems and clouds send before they kill.

use std::io;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::server::Letter;

/// The first signal lets the run save and stop, the second one ends the process at once.
pub(super) fn on_interrupt(
    letters: Sender<Letter>,
    say: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let mut asked = false;
    on_signal(move |status| {
        if asked || letters.send(Letter::Interrupt).is_err() {
            exit(status);
        }
        asked = true;
        say();
    })
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
    drop(guard);
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => act(130),
                        _ = terminate.recv() => act(143),
                    }
                }
            });
        })?;
    Ok(())
}
