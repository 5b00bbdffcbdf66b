//! `dsgd chaos`: faults in one's own run, to see it live through them.
//!
//! What is here disturbs one run, which the user names, from the machine where its server is: its
//! workers on hosts are killed or put to sleep, its connections are cut, its server is killed. After
//! each fault it says how the run coped, and in the end whether every batch was counted once. Faults
//! need no privilege; what does (power, cables) is left to people.

mod fault;
mod watch;

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use clap::{Args, Command, FromArgMatches};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use dsgd_engine::config::positive;
use dsgd_observe::output::say;
use fault::{Fault, FaultKind, Target};
use watch::Watch;

/// How often the run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// After the last fault, the run has so long to make its next update.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// A server that is gone so long is not started again by anybody.
const GONE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
struct ChaosArgs {
    /// Folder of a run of yours that is being trained on this machine
    run: PathBuf,
    /// A fault every so many seconds
    #[arg(long, value_name = "SECS", default_value_t = 10.0, value_parser = positive)]
    every: f64,
    /// Stop after so many seconds
    #[arg(long = "for", value_name = "SECS", default_value_t = 60.0, value_parser = positive)]
    length: f64,
    /// The same seed, the same faults [default: another each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Which faults, such as kill,cut [default: all that are possible]
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',')]
    faults: Vec<FaultKind>,
}

pub(super) fn command() -> Command {
    ChaosArgs::augment_args(Command::new("chaos"))
        .about("Disturb a run of yours, and see how it copes")
        .long_about(
            "Disturb a run of yours, and see how it copes. Every few seconds a random fault: workers \
             of a host are killed or put to sleep, a connection is cut, the server is killed. \
             Training goes on; what a killed server had done since its last checkpoint \
             (--save-minutes) is done again.",
        )
}

pub(super) fn run(matches: &clap::ArgMatches) -> anyhow::Result<()> {
    let args = ChaosArgs::from_arg_matches(matches)?;
    let target = Target::of(&args.run)?;
    let kinds = target.possible(&args.faults)?;
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = args
        .seed
        .unwrap_or_else(|| now.map_or(0, |now| now.as_micros() as u64 % 1_000_000));
    say(format_args!(
        "A fault every {} s for {} s, of {}; again the same with --seed {seed}",
        args.every,
        args.length,
        names.join(", ")
    ));
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut watch = Watch::new(&args.run);
    let mut faults: Vec<Fault> = Vec::new();
    let every = Duration::from_secs_f64(args.every);
    let ends = Instant::now() + Duration::from_secs_f64(args.length);
    loop {
        let until = ends.min(Instant::now() + every);
        let goes_on = follow(&mut watch, &target, until, false)?;
        if let Some(last) = faults.last() {
            say(format_args!("    {}", watch.coped(last)));
        }
        // A fault that cannot be watched for a while says nothing of the run.
        if !goes_on || Instant::now() + every / 2 > ends {
            break;
        }
        let Some(&kind) = target.possible(&args.faults)?.choose(&mut random) else {
            break;
        };
        let fault = target.inject(kind, random.random())?;
        say(format_args!(
            "{:6.1} s  {}",
            watch.secs(fault.at),
            fault.words
        ));
        faults.push(fault);
    }
    if faults.last().is_some_and(|last| !watch.is_over_it(last)) {
        follow(&mut watch, &target, Instant::now() + LAST_WORDS, true)?;
    }
    close(&watch, &faults)
}

/// Follows the run until then, or until the next update; `false` when the run is over.
fn follow(
    watch: &mut Watch,
    target: &Target,
    until: Instant,
    only_one: bool,
) -> anyhow::Result<bool> {
    let before = watch.updates();
    let mut seen_alive = Instant::now();
    while Instant::now() < until && !(only_one && watch.updates() > before) {
        watch.look();
        if watch.finished() {
            return Ok(false);
        }
        if target.server().is_some() {
            seen_alive = Instant::now();
        } else if seen_alive.elapsed() > GONE {
            bail!(
                "the server of {} is gone and nobody starts it again: go on with train --resume {}",
                target.folder().display(),
                target.folder().display()
            );
        }
        sleep(LOOK_EVERY);
    }
    Ok(true)
}

/// The sum of it all.
fn close(watch: &Watch, faults: &[Fault]) -> anyhow::Result<()> {
    let mut counts = Vec::new();
    for kind in FaultKind::ALL {
        let count = faults.iter().filter(|fault| fault.kind == kind).count();
        if count > 0 {
            counts.push(format!("{} {count}", kind.name()));
        }
    }
    let plural = if faults.len() == 1 { "" } else { "s" };
    say(format_args!(
        "{} fault{plural} in {:.0} s: {}",
        faults.len(),
        watch.secs(Instant::now()),
        counts.join(", ")
    ));
    say(watch.summary());
    let wrong = watch.accounts();
    if !wrong.is_empty() {
        bail!("the accounts do not hold: {}", wrong.join("; "));
    }
    say("Accounts hold: every batch was counted once in its epoch");
    Ok(())
}
