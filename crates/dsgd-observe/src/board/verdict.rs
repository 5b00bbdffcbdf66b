//! Hosts side by side, and which one is slowest, and why.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Board, Presence, Totals};

/// A host is slow when its workers take so many times as long for a batch as the others'.
const SLOW: f64 = 1.25;

/// Fewer batches say nothing.
const LEAST_BATCHES: u64 = 3;

/// The workers of a host, as one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostRow {
    /// The host's name.
    pub host: String,
    /// Its workers, and how many of them live.
    pub workers: usize,
    /// How many of them have joined and are not lost.
    pub live: usize,
    /// How often one was lost.
    pub losses: u32,
    /// What was applied of them.
    pub totals: Totals,
}

/// The slowest host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slowest {
    /// The host's name.
    pub host: String,
    /// Seconds of a worker there for a batch.
    pub secs: f64,
    /// The same of the others.
    pub others_secs: f64,
    /// What it needs more time for, in words.
    pub why: &'static str,
}

impl std::fmt::Display for Slowest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            host,
            secs,
            others_secs,
            why,
        } = self;
        write!(
            f,
            "{host} is slowest: {secs:.2} s a batch, the others {others_secs:.2} s; {why}"
        )
    }
}

impl Board {
    /// The hosts, by name. Workers are named `HOST/SLOT`.
    pub fn hosts(&self) -> Vec<HostRow> {
        let mut hosts: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        for (name, row) in &self.workers {
            let host = name.rsplit_once('/').map_or(&name[..], |(host, _)| host);
            hosts.entry(host).or_default().push(row);
        }
        let host = |(host, rows): (&str, Vec<&super::WorkerRow>)| HostRow {
            host: host.to_owned(),
            workers: rows.len(),
            live: rows.iter().filter(|r| r.state == Presence::Working).count(),
            losses: rows.iter().map(|row| row.losses).sum(),
            totals: Totals::sum(rows.iter().map(|row| &row.totals)),
        };
        hosts.into_iter().map(host).collect()
    }

    /// The host whose workers take longest for a batch, if clearly longer than those of the others.
    ///
    /// Time that it waits is not its own: the comparison is of computing, pulling and pushing.
    pub fn slowest(&self) -> Option<Slowest> {
        let known = |host: &HostRow| host.totals.batches >= LEAST_BATCHES;
        let hosts: Vec<_> = self.hosts().into_iter().filter(known).collect();
        let slowest = hosts.iter().max_by(|a, b| own(a).total_cmp(&own(b)))?;
        let others = hosts.iter().filter(|host| host.host != slowest.host);
        let others = Totals::sum(others.map(|host| &host.totals));
        if others.batches == 0 {
            return None;
        }
        let mean = |totals: &Totals, secs: f64| secs / totals.batches as f64;
        let others_secs = mean(&others, own_secs(&others));
        let (secs, totals) = (own(slowest), &slowest.totals);
        if secs < SLOW * others_secs {
            return None;
        }
        let more =
            |part: fn(&Totals) -> f64| mean(totals, part(totals)) - mean(&others, part(&others));
        let computing = more(|t| t.compute_secs);
        let moving = more(|t| t.pull_secs) + more(|t| t.push_secs);
        let why = if computing >= moving {
            "it computes longer: fewer or busier cores"
        } else {
            "its pulls and pushes take longer: a slower network"
        };
        Some(Slowest {
            host: slowest.host.clone(),
            secs,
            others_secs,
            why,
        })
    }
}

fn own_secs(totals: &Totals) -> f64 {
    totals.compute_secs + totals.pull_secs + totals.push_secs
}

/// Seconds of a worker there for a batch, without waiting.
fn own(host: &HostRow) -> f64 {
    own_secs(&host.totals) / host.totals.batches.max(1) as f64
}
