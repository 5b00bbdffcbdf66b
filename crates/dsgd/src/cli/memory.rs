//! Whether a run's memory can be had on this machine: asked before it is taken, and answered in figures.
//!
//! What is counted are the things of the model's size: versions of the parameters, what the optimizer
//! keeps, gradients, and the buffers that the task tells of. The data are in memory by then.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use dsgd_core::codec::Codec;
use dsgd_core::mode::Mode;
use dsgd_core::params::{Kind, Layout};
use dsgd_engine::Error;
use dsgd_engine::config::{LOCAL_WORKERS, RunConfig, cores};
use dsgd_observe::figures::{bytes, count, rate, whole};

/// Address space of a thread: its stack, and what the system's allocator (glibc's) sets apart for it.
const THREAD: u128 = 66 << 20;

/// It does so for that many threads a core.
const ARENAS_OF_A_CORE: u128 = 8;

/// Versions of the parameters of which there are buffers with any number of workers.
const FEW_VERSIONS: u128 = 3;

/// What is needed, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Need {
    /// Memory that is written to.
    memory: u128,
    /// Address space: also what is set apart and never written to.
    space: u128,
}

/// What there is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Had {
    bytes: u128,
    whose: &'static str,
}

/// A model, and what is kept of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    parameters: u128,
    /// Bytes of the parameters once.
    params: u128,
    gradient: u128,
    /// Vectors of the optimizer.
    state: u128,
    /// Bytes of the task's buffers for one worker.
    scratch: u128,
    /// Versions of the parameters, whatever the number of workers.
    versions: u128,
    /// Versions of the parameters for each worker.
    versions_each: u128,
    /// The option that says how many workers there are.
    option: &'static str,
}

impl Sizes {
    /// Of a server; none of `scratch` where its workers are elsewhere.
    pub(super) fn of_server(config: &RunConfig, layout: &Layout, scratch: u64) -> Self {
        let state = config.optimizer.build(config.hyper).state_names().len() as u128;
        // Those that workers elsewhere have.
        let public = u128::from(config.is_elsewhere() && config.codecs().pull.has_blocks());
        let (versions, versions_each, state) = match config.mode() {
            Mode::Async => (1, 1, state),
            // All workers read one, while the next one is made.
            Mode::Sync | Mode::Split => (2, 0, state),
            // A worker has told what its optimizer keeps.
            Mode::Local if config.elsewhere.uses_ssh() => (2, 0, state),
            Mode::Local => (2, own_vectors(config), state),
        };
        Self {
            parameters: layout.len() as u128,
            params: of_floats(layout.len()),
            gradient: gradient(layout) * gradients(config),
            state,
            scratch: scratch.into(),
            versions: versions + public,
            versions_each,
            option: "-n ",
        }
    }

    /// Of workers elsewhere than their server, each of which has its own copy.
    pub(super) fn of_workers(config: &RunConfig, layout: &Layout, scratch: u64) -> Self {
        Self {
            parameters: layout.len() as u128,
            params: of_floats(layout.len()),
            // What a codec leaves out is kept.
            gradient: gradient(layout)
                * (gradients(config) + u128::from(config.codecs().push != Codec::None)),
            state: 0,
            scratch: scratch.into(),
            versions: 0,
            versions_each: 1 + own_vectors(config),
            option: "slots=",
        }
    }

    fn need(&self, workers: u128) -> Need {
        let versions = self.versions + workers * self.versions_each;
        let kept = self.state * self.params + workers * (self.gradient + self.scratch);
        let threads = 1 + workers.min(ARENAS_OF_A_CORE * cores() as u128);
        Need {
            memory: versions * self.params + kept,
            space: FEW_VERSIONS.max(workers + 1) * self.params + kept + threads * THREAD,
        }
    }

    /// Refuses what cannot be had, and warns of what is not free now.
    pub(super) fn check(&self, workers: usize) -> Result<Option<String>, Error> {
        let workers = (workers as u128).max(1);
        let limits = Limits::now();
        if let Some((need, had)) = limits.lacking(self.need(workers)) {
            return Err(Error::Options(self.refusal(workers, need, had, &limits)));
        }
        let need = self.need(workers).memory;
        let free = limits.free.filter(|free| *free < need);
        Ok(free.map(|free| {
            format!(
                "this run needs about {} of memory, and {} are free now: it may become slow, or be killed",
                size(need),
                size(free)
            )
        }))
    }

    fn refusal(&self, workers: u128, need: u128, had: Had, limits: &Limits) -> String {
        let fits = |workers: &u128| limits.lacking(self.need(*workers)).is_none();
        let fewer = (1..workers).rev().find(fits);
        let remedy = match fewer {
            Some(fewer) => format!("{}{fewer} would fit", self.option),
            None => "take a smaller model, or a machine with more".to_owned(),
        };
        format!(
            "{} parameters and {} need about {} of memory on this machine, {} for the parameters once; {} \
             {}: {remedy}",
            whole(self.parameters),
            count(workers as u64, "worker"),
            size(need),
            size(self.params),
            had.whose,
            size(had.bytes)
        )
    }
}

/// As people read it: beyond what is counted elsewhere, too.
fn size(number: u128) -> String {
    match u64::try_from(number) {
        Ok(number) => bytes(number),
        Err(_) => format!("{} EB", rate(number as f64 / 1e18)),
    }
}

/// Vectors of a worker that takes steps by itself: its parameters, and its optimizer's state.
fn own_vectors(config: &RunConfig) -> u128 {
    match config.mode() {
        Mode::Local => 1 + config.optimizer.build(config.hyper).state_names().len() as u128,
        _ => 0,
    }
}

/// Gradients of a worker: that of a round, and that of a batch which is added to it; or those of its share of the
/// parts of a batch.
fn gradients(config: &RunConfig) -> u128 {
    let parts = config.parts.unwrap_or(1);
    let workers = config.workers.unwrap_or(LOCAL_WORKERS).max(1);
    let round = match config.mode() {
        // Its delta, a gradient, and the delta that is on its way.
        Mode::Local => 2 + usize::from(config.elsewhere.prefetch || config.planned),
        _ if config.round > 1 => 2,
        _ => 1,
    };
    parts.div_ceil(workers).max(round) as u128
}

fn of_floats(number: usize) -> u128 {
    4 * number as u128
}

/// Bytes of a gradient before any row of a table is touched.
fn gradient(layout: &Layout) -> u128 {
    let part = |tensor: &dsgd_core::params::Tensor| match tensor.kind {
        Kind::Dense => of_floats(tensor.range.len()),
        Kind::Rows => of_floats(tensor.shape[0]),
    };
    layout.tensors().iter().map(part).sum()
}

/// How much memory this process may have.
#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    /// What machine or control group has.
    memory: Option<Had>,
    /// What `ulimit -v` says.
    space: Option<Had>,
    /// What nobody uses now.
    free: Option<u128>,
    /// What this process has taken of memory and address space.
    taken: [u128; 2],
}

impl Limits {
    fn now() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let total = |names: [&str; 2]| {
            let [first, second] = names.map(|name| kib(&meminfo, name));
            Some(first? + second.unwrap_or(0))
        };
        let machine = total(["MemTotal:", "SwapTotal:"]);
        let machine = machine.map(|bytes| Had {
            bytes,
            whose: "it has",
        });
        let group = group_limit().map(|bytes| Had {
            bytes,
            whose: "its control group may have",
        });
        let space = getrlimit(Resource::As).current.map(|bytes| Had {
            bytes: bytes.into(),
            whose: "ulimit -v allows",
        });
        let both = machine.into_iter().chain(group);
        Self {
            memory: both.min_by_key(|had| had.bytes),
            space,
            free: total(["MemAvailable:", "SwapFree:"]),
            taken: ["VmRSS:", "VmSize:"].map(|name| kib(&status, name).unwrap_or(0)),
        }
    }

    /// What is too much of this, and what there is of it.
    fn lacking(&self, need: Need) -> Option<(u128, Had)> {
        let [memory, space] = self.taken;
        let lacks = |need: u128, taken: u128, had: Option<Had>| {
            let had = had.filter(|had| need + taken > had.bytes)?;
            Some((need + taken, had))
        };
        lacks(need.memory, memory, self.memory).or_else(|| lacks(need.space, space, self.space))
    }
}

/// A line such as `MemTotal:  16000 kB`, in bytes.
fn kib(text: &str, name: &str) -> Option<u128> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let number: u128 = line.split_whitespace().next()?.parse().ok()?;
    Some(1024 * number)
}

/// The least that a control group of this process allows, in version 2 or 1 of them.
fn group_limit() -> Option<u128> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (kinds, path) = (parts.next()?, parts.next()?);
        let (root, file) = match kinds {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if kinds.split(',').any(|kind| kind == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let own = Path::new(path.trim_start_matches('/'));
        let up = own
            .ancestors()
            .map(|group| Path::new(root).join(group).join(file));
        let read = up.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
        read.min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASYNC: [u128; 2] = [1, 1];
    const SYNC: [u128; 2] = [2, 0];

    /// 1,000,000 parameters: 4 MB once.
    fn sizes([versions, versions_each]: [u128; 2]) -> Sizes {
        Sizes {
            parameters: 1_000_000,
            params: 4_000_000,
            gradient: 3_000_000,
            state: 2,
            scratch: 10_000_000,
            versions,
            versions_each,
            option: "-n ",
        }
    }

    fn limits(memory: u128) -> Limits {
        Limits {
            memory: Some(Had {
                bytes: memory,
                whose: "it has",
            }),
            taken: [1_000_000, 0],
            ..Limits::default()
        }
    }

    #[test]
    fn what_is_needed_grows_with_the_workers() {
        // Versions, optimizer, and 13 MB a worker.
        assert_eq!(
            sizes(ASYNC).need(4).memory,
            (5 + 2) * 4_000_000 + 4 * 13_000_000
        );
        assert_eq!(
            sizes(SYNC).need(4).memory,
            (2 + 2) * 4_000_000 + 4 * 13_000_000
        );
        assert!(sizes(SYNC).need(4).space > sizes(SYNC).need(4).memory);
        assert_eq!(size(32_000_000_000_000_000_000), "32.0 EB");
    }

    #[test]
    fn what_would_fit_is_reported() {
        let limits = limits(100_000_000);
        // 1 MB is taken; five workers need 97 MB, six 114.
        assert!(limits.lacking(sizes(ASYNC).need(5)).is_none());
        let (need, had) = limits.lacking(sizes(ASYNC).need(6)).unwrap();
        let words = sizes(ASYNC).refusal(6, need, had, &limits);
        assert_eq!(
            words,
            "1,000,000 parameters and 6 workers need about 115 MB of memory on this machine, 4.00 MB for the \
             parameters once; it has 100 MB: -n 5 would fit"
        );
        let huge = Sizes {
            params: 1 << 50,
            ..sizes(ASYNC)
        };
        let (need, had) = limits.lacking(huge.need(6)).unwrap();
        let words = huge.refusal(6, need, had, &limits);
        assert!(
            words.ends_with("take a smaller model, or a machine with more"),
            "{words}"
        );
    }
}
