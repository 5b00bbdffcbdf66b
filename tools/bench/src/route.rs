//! A route for bytes, and what it takes to move everything once.

use std::time::Instant;

/// A pull and a push.
pub(crate) struct Round {
    pub(crate) pull: Cost,
    pub(crate) push: Cost,
}

/// What it takes to move everything once.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) secs: f64,
    /// Processor time of both ends: what counts where cores are few, and less noisy than seconds.
    pub(crate) cpu_secs: f64,
}

/// A moment, and the processor time of this process until then.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    at: Instant,
    pub(crate) cpu_secs: f64,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Self {
            at: Instant::now(),
            cpu_secs: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        }
    }

    pub(crate) fn until(self, end: Self) -> Cost {
        Cost {
            secs: (end.at - self.at).as_secs_f64(),
            cpu_secs: end.cpu_secs - self.cpu_secs,
        }
    }
}

/// A route for bytes.
pub(crate) trait Route {
    /// Everything there, and everything back.
    fn round(&mut self) -> anyhow::Result<Round>;
}
