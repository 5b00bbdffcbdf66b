//! What makes no sense in a run's options, said before anything is begun.

use dsgd_core::codec::Codec;
use dsgd_core::mode::Mode;
use dsgd_core::model::Manifest;

use super::{LOCAL_WORKERS, RunConfig};
use crate::error::Error;

/// An option that makes no sense.
macro_rules! bail {
    ($($words:tt)*) => { return Err(Error::Options(format!($($words)*))) };
}

impl RunConfig {
    /// What no single option's parser can see, and what parsers see of typed options only: the same
    /// may stand in a file.
    pub fn check(&self) -> Result<(), Error> {
        self.hyper.check()?;
        let least_one = [
            ("threads", self.threads.unwrap_or(1)),
            ("epochs", self.epochs as usize),
            ("start-epoch", self.start_epoch as usize),
            ("keep", self.keep),
            ("round", self.round),
            ("parts", self.parts.unwrap_or(1)),
            ("local-steps", self.local_steps.unwrap_or(1)),
            ("print-every", self.print_every),
        ];
        if let Some((name, _)) = least_one.iter().find(|(_, value)| *value == 0) {
            bail!("--{name} 0: must be 1 or above");
        }
        if self.workers == Some(0) {
            let elsewhere = &self.elsewhere;
            if elsewhere.listen.is_none() || elsewhere.uses_ssh() {
                bail!(
                    "--workers 0: must be 1 or above, unless workers join by themselves (--listen)"
                );
            }
            if self.mode == Some(Mode::Sync) {
                bail!("--workers 0: with --mode sync it is the number of batches in a step");
            }
        }
        if self.epochs < self.start_epoch {
            bail!(
                "--epochs {} is before --start-epoch {}",
                self.epochs,
                self.start_epoch
            );
        }
        let year_secs = 3.2e7;
        let numbers = [
            ("learning-rate", f64::from(self.learning_rate), f64::MAX),
            ("lease-timeout", self.lease_timeout, year_secs),
            ("dead-after", self.elsewhere.dead_after, year_secs),
            ("orphan-after", self.elsewhere.orphan_after, year_secs),
            ("give-up-after", self.elsewhere.give_up_after, year_secs),
        ];
        for (name, value, most) in numbers {
            if !value.is_finite() || value <= 0.0 || value > most {
                bail!("--{name} {value}: must be a number above 0{}", up_to(most));
            }
        }
        let numbers = [
            ("max-grad-norm", f64::from(self.max_grad_norm), f64::MAX),
            ("lr-decay", f64::from(self.lr_decay), f64::MAX),
            ("save-minutes", self.save_minutes, year_secs / 60.0),
        ];
        for (name, value, most) in numbers {
            if !value.is_finite() || value < 0.0 || value > most {
                bail!("--{name} {value}: must be 0 or above{}", up_to(most));
            }
        }
        if self.elsewhere.codec == Some(Codec::Log8) {
            bail!("--codec log8: optimizers' states travel so, gradients and parameters cannot");
        }
        if let Some(wait) = self.wait.filter(|wait| !wait.is_finite()) {
            bail!("--wait {wait}: must be a number");
        }
        if let Some(name) = &self.save_file
            && (name.contains(std::path::is_separator) || name.is_empty())
        {
            bail!("--save-file {name}: is the start of a file's name, not a path; see --run-dir");
        }
        Ok(())
    }

    /// Settles what is not said and depends on the task: the mode, and the parts of a batch. Returns what may surprise.
    ///
    /// # Errors
    /// What makes no sense together, or for this task.
    pub fn settle(&mut self, manifest: &Manifest) -> Result<Option<String>, Error> {
        let most_parts = manifest.most_parts;
        let elsewhere = self.is_elsewhere();
        let workers = self.workers.unwrap_or(LOCAL_WORKERS);
        let (round, backup) = (self.round > 1, self.backup_workers > 0);
        let asynchronous = round || self.wait.is_some() || self.max_staleness.is_some();
        let asynchronous = asynchronous || self.staleness_lr || backup;
        // What is settled stays so. Whoever comes through a port may be any program, which knows gradients.
        self.planned |= self.mode.is_none()
            && self.elsewhere.uses_ssh()
            && !asynchronous
            && self.parts.is_none();
        let would_share = !elsewhere && workers > 1 && most_parts > 1 && !asynchronous;
        let mut note = None;
        let mode = match (self.mode, self.parts) {
            (Some(mode), _) => mode,
            (None, Some(_)) => Mode::Split,
            (None, None) if self.planned => Mode::Local,
            (None, None) if would_share && workers <= most_parts => Mode::Split,
            (None, None) => {
                note = would_share.then(|| {
                    format!(
                        "a batch can be cut into {most_parts} parts, not for {workers} workers: each gradient is \
                         applied as it arrives (-n {most_parts} shares each batch)"
                    )
                });
                Mode::Async
            }
        };
        self.mode = Some(mode);
        if mode == Mode::Local {
            if round || backup {
                let option = if round { "round" } else { "backup-workers" };
                bail!("--{option}: not with --mode local; see --local-steps");
            }
        } else if let Some(steps) = self.local_steps {
            bail!("--local-steps {steps}: only --mode local takes them");
        } else if let Some(rate) = self.outer_rate {
            bail!("--outer-rate {rate}: only --mode local has one");
        }
        if mode != Mode::Split {
            return match self.parts {
                Some(parts) => bail!("--parts {parts}: only --mode split cuts batches"),
                None => Ok(note),
            };
        }
        if most_parts <= 1 {
            bail!("--mode split: a batch of this task cannot be cut; try --mode sync or async");
        }
        if round || backup {
            let option = if round { "round" } else { "backup-workers" };
            bail!("--{option}: not with --mode split, in which a step is one batch");
        }
        let parts = match self.parts {
            None if elsewhere && self.workers.is_none() => most_parts,
            None => workers.clamp(1, most_parts),
            Some(parts) => parts,
        };
        if parts > most_parts {
            bail!("--parts {parts}: a batch of this task can be cut into {most_parts} at most");
        }
        self.parts = Some(parts);
        let idle = workers.saturating_sub(parts);
        Ok((idle > 0 && !elsewhere).then(|| {
            format!("{workers} workers share batches of {parts} parts: {idle} have nothing to do")
        }))
    }

    /// What can be seen only when it is known how many workers there are.
    pub fn check_workers(&self, workers: usize) -> Result<(), Error> {
        if self.backup_workers >= workers.max(1) {
            bail!(
                "--backup-workers {}: must be less than the {workers} workers",
                self.backup_workers
            );
        }
        Ok(())
    }
}

fn up_to(most: f64) -> String {
    match most {
        f64::MAX => String::new(),
        _ => format!(", up to {most}"),
    }
}
