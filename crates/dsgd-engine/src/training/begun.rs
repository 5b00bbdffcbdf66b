//! A run that has begun, and how it went.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use dsgd_core::core::End;
use dsgd_core::event::{Event, Observer};
use dsgd_core::model::Model;
use dsgd_core::params::Params;
use dsgd_core::task::Stats;

use crate::error::Error;
use crate::launch::{Handle, LaunchSpec, Launcher};
use crate::server::{Message, Server};
use crate::wire::integrity::Initial;
use crate::worker::StepRule;

/// Workers have so long to end by themselves when the run is over.
const FAREWELL: Duration = Duration::from_secs(5);

/// A run that nothing can refuse any more, before its first event.
pub struct Begun {
    pub(super) server: Server,
    pub(super) started: Event,
    pub(super) model: Arc<dyn Model>,
    pub(super) rule: StepRule,
    pub(super) initial: Option<Initial>,
    pub(super) launchers: Vec<Box<dyn Launcher>>,
    pub(super) messages: Sender<Message>,
    pub(super) inbox: Receiver<Message>,
}

impl Begun {
    /// Adds an observer, such as one that writes into the run's folder.
    pub fn observe(&mut self, observer: Observer) {
        self.server.observe(observer);
    }

    /// Trains until the run is over.
    ///
    /// # Errors
    /// When no worker can be started.
    pub fn run(self) -> Result<Finished, Error> {
        let Self {
            mut server,
            started,
            model,
            rule,
            initial,
            launchers,
            messages,
            inbox,
        } = self;
        let (results, reported) = channel();
        server.observe(Box::new(move |record| {
            if matches!(
                record.event,
                Event::EpochFinished { .. } | Event::Saved { .. }
            ) {
                // Read below, when the server has gone.
                let _ = results.send(record.event.clone());
            }
        }));
        server.emit(started);
        let spec = LaunchSpec {
            model,
            messages,
            numbers: server.numbers(),
            buffers: server.buffers().clone(),
            rule,
            initial,
            over: server.over(),
        };
        let launched: Result<Vec<Box<dyn Handle>>, _> = launchers
            .into_iter()
            .map(|launcher| launcher.launch(spec.clone()))
            .collect();
        // The inbox closes when the last worker has gone.
        drop(spec);
        let handles = launched.map_err(Error::Launch)?;
        let finished = server.run(&inbox);
        // Whoever joins now finds that the run is over: what goes with its message is dropped.
        let drained = thread::Builder::new().spawn(move || inbox.iter().for_each(drop));
        drained.map_err(|error| Error::Launch(error.into()))?;
        for handle in handles {
            handle.dismiss(FAREWELL);
        }
        let mut result = Finished {
            end: finished.end,
            steps: finished.steps,
            train: None,
            validation: None,
            checkpoint: None,
            unsaved: finished.unsaved,
            params: finished.params,
        };
        for event in reported.try_iter() {
            match event {
                Event::EpochFinished {
                    train, validation, ..
                } => {
                    (result.train, result.validation) = (Some(train), validation);
                }
                Event::Saved { file, .. } => result.checkpoint = Some(file),
                _ => {}
            }
        }
        Ok(result)
    }
}

/// How a run went.
pub struct Finished {
    /// How it ended.
    pub end: End,
    /// Steps of the parameters in all.
    pub steps: u64,
    /// Sums over the training batches of the last epoch that was finished.
    pub train: Option<Stats>,
    /// Sums over its validation batches, where there are any.
    pub validation: Option<Stats>,
    /// The checkpoint that was written last.
    pub checkpoint: Option<String>,
    /// Why the last checkpoint could not be written, if so.
    pub unsaved: Option<String>,
    params: Arc<Params>,
}

impl Finished {
    /// The parameters as they are now.
    pub fn params(&self) -> &Params {
        &self.params
    }
}
