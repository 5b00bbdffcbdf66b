//! An observer on a thread of its own: however slow it is, nobody waits for it.
//!
//! Records wait for it in a queue of bounded length. When that is full, because the reader of a
//! pipe has stopped or a disk stands still, records are left out, which is reported when it goes on.

use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel,
};
use std::thread;
use std::time::Duration;

use dsgd_core::event::{Event, Observer, Record};

/// Records that wait for an observer: some seconds of a fast run, some megabytes at most.
const QUEUE: usize = 8192;

/// An observer has so long to finish when the run is over.
const FAREWELL: Duration = Duration::from_secs(2);

/// The same observer, but on its own thread.
///
/// # Errors
/// When the system gives no thread.
pub fn detached(name: &str, mut observer: Observer) -> std::io::Result<Observer> {
    let (records, inbox) = sync_channel::<Record>(QUEUE);
    let (done, ended) = channel::<()>();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            for record in inbox {
                observer(&record);
            }
            drop(observer);
            drop(done);
        })?;
    let mut queue = Queue {
        records: Some(records),
        ended,
        left_out: 0,
    };
    Ok(Box::new(move |record| queue.send(record)))
}

struct Queue {
    records: Option<SyncSender<Record>>,
    ended: Receiver<()>,
    left_out: u64,
}

impl Queue {
    fn send(&mut self, record: &Record) {
        let Some(records) = &self.records else {
            return;
        };
        if self.left_out > 0 {
            let message = format!("{} events were not shown: nobody read them", self.left_out);
            let gap = Record {
                at_secs: record.at_secs,
                event: Event::Notice { message },
            };
            if records.try_send(gap).is_err() {
                self.left_out += 1;
                return;
            }
            self.left_out = 0;
        }
        match records.try_send(record.clone()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.left_out += 1,
            Err(TrySendError::Disconnected(_)) => self.records = None,
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.records = None;
        // The other end is dropped when all is shown.
        let _: Result<(), RecvTimeoutError> = self.ended.recv_timeout(FAREWELL);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use super::*;

    fn notice(number: usize) -> Record {
        let message = number.to_string();
        Record {
            at_secs: 0.0,
            event: Event::Notice { message },
        }
    }

    #[test]
    fn all_is_shown_in_order_and_before_the_end() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let observer: Observer = Box::new(move |record| into.lock().unwrap().push(record.clone()));
        let mut observer = detached("test", observer).unwrap();
        (0..1000).for_each(|number| observer(&notice(number)));
        drop(observer);
        let all: Vec<_> = (0..1000).map(notice).collect();
        assert_eq!(*seen.lock().unwrap(), all);
    }

    #[test]
    fn one_that_stands_still_holds_nobody_up_and_the_gap_is_reported() {
        let (go_on, wait) = channel::<()>();
        let (begins, begun) = channel::<()>();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&seen);
        let observer: Observer = Box::new(move |record| {
            let _ = begins.send(());
            let _ = wait.recv();
            into.lock().unwrap().push(record.clone());
        });
        let mut observer = detached("test", observer).unwrap();
        observer(&notice(0));
        begun.recv().unwrap();
        let started = Instant::now();
        (0..3 * QUEUE).for_each(|number| observer(&notice(number)));
        assert!(started.elapsed() < Duration::from_secs(5), "nobody waits");
        drop(go_on);
        let gap = loop {
            observer(&notice(0));
            let seen = seen.lock().unwrap();
            let words = seen.iter().find_map(|record| match &record.event {
                Event::Notice { message } if message.contains("not shown") => Some(message.clone()),
                _ => None,
            });
            if let Some(words) = words {
                break words;
            }
            assert!(started.elapsed() < Duration::from_secs(30));
        };
        let number: usize = gap.split(' ').next().unwrap().parse().unwrap();
        assert!(number >= 2 * QUEUE, "{gap}");
    }
}
