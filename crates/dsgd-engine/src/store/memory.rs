//! The store in this process's memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::average::average;
use super::{Contents, Differences, PublicCopy, Store, Versions};
use crate::worker::Buffers;
use dsgd_core::codec::Codec;
use dsgd_core::core::LeaseId;
use dsgd_core::optim::{StepSize, batch_share};
use dsgd_core::params::{Gradient, Params, Snapshot};

/// Parameters, and pushed gradients, in this process's memory.
pub struct InMemory {
    versions: Versions,
    /// Each with its examples.
    held: BTreeMap<LeaseId, (Box<Gradient>, u64)>,
    /// Where a gradient goes that is of no more use.
    buffers: Buffers,
    threads: usize,
    /// The parameters that workers elsewhere have, where they are not these.
    public: Option<PublicCopy>,
}

impl InMemory {
    /// These parameters; sums are made on so many threads.
    pub fn new(versions: Versions, buffers: Buffers, threads: usize) -> Self {
        Self {
            versions,
            held: BTreeMap::new(),
            buffers,
            threads: threads.max(1),
            public: None,
        }
    }

    /// What is new travels in this codec, to readers who keep a copy.
    #[must_use]
    pub fn with_public_copy(mut self, codec: Codec) -> Self {
        let (version, params) = (self.versions.version(), self.versions.current());
        self.public = Some(PublicCopy::new(codec, version, params));
        self
    }

    fn take(&mut self, lease: LeaseId) -> (Box<Gradient>, u64) {
        self.held.remove(&lease).expect("a pushed gradient is here")
    }
}

impl Store for InMemory {
    fn hold(&mut self, lease: LeaseId, gradient: Box<Gradient>, examples: u64) {
        let twice = self.held.insert(lease, (gradient, examples));
        assert!(twice.is_none(), "lease {lease} was pushed twice");
    }

    fn average(&mut self, of: &[LeaseId]) -> f64 {
        let (&first, rest) = of.split_first().expect("a step has a gradient");
        let (mut mean, examples) = self.take(first);
        let others: Vec<_> = rest.iter().map(|&lease| self.take(lease)).collect();
        let all = examples + others.iter().map(|(_, examples)| examples).sum::<u64>();
        // A task that does not count its examples has batches of one size.
        let share = |examples| match all {
            0 => batch_share(1, of.len() as u64),
            _ => batch_share(examples, all),
        };
        let shares = others.iter().map(|(other, own)| (&**other, share(*own)));
        let shares: Vec<_> = shares.collect();
        let squares = average(&mut mean, share(examples), &shares, self.threads);
        for (gradient, _) in others {
            self.buffers.give(gradient);
        }
        self.held.insert(first, (mean, all));
        squares.sqrt()
    }

    fn apply(&mut self, lease: LeaseId, size: StepSize) {
        let (gradient, _) = self.take(lease);
        self.versions.step(&gradient, size);
        self.buffers.give(gradient);
    }

    fn discard(&mut self, lease: LeaseId) {
        if let Some((gradient, _)) = self.held.remove(&lease) {
            self.buffers.give(gradient);
        }
    }

    fn version(&self) -> u64 {
        self.versions.version()
    }

    fn current(&self) -> &Arc<Params> {
        self.versions.current()
    }

    fn snapshot(&self) -> Snapshot {
        self.versions.snapshot(None)
    }

    fn snapshot_for_copy(&mut self, have: Option<u64>) -> (Snapshot, Option<Differences>) {
        match &mut self.public {
            None => (self.versions.snapshot(have), None),
            Some(public) => {
                public.follow(self.versions.updater(), self.versions.current());
                let (copy, differences) = public.snapshot();
                (copy, Some(differences))
            }
        }
    }

    fn travel_in(&mut self, codec: Codec) {
        if let Some(public) = &mut self.public {
            public.travel_in(codec);
        }
    }

    fn contents(&self) -> Contents<'_> {
        self.versions.contents()
    }

    fn prepare(&mut self, readers: usize) {
        self.versions.prepare(readers);
    }
}
