//! parameters and gradients through our gRPC, against the bare connection.
//!
//! All routes take turns, so that whatever else the machine does meets each of them alike; what
//! is told are medians, and for the shares medians over the rounds.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedSender;

use crate::median::median;
use crate::route::{Cost, Moment, Round, Route};
use crate::{load, raw};
use dsgd_core::codec::Codecs;
use dsgd_core::core::Report;
use dsgd_core::params::{Layout, Params, Snapshot};
use dsgd_core::task::{Batch, Part};
use dsgd_engine::server::Message;
use dsgd_engine::wire::credentials::{Identity, Token};
use dsgd_engine::wire::link::{self, Client, LinkError, Remote};
use dsgd_engine::wire::listen::{Listener, serve};
use dsgd_engine::wire::service::{Service, Terms};
use dsgd_engine::worker::{Assignment, Buffers, Job, Link, Outcome, TransferTimes};
use dsgd_observe::output::say;

/// How long a round may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct WireArgs {
    /// Parameters of the model, 4 bytes each
    #[arg(long, value_name = "N", default_value_t = 37_219_687)]
    parameters: usize,
    /// Rounds; medians are told
    #[arg(long, value_name = "N", default_value_t = 9,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,
}

pub(crate) fn run(args: &WireArgs) -> anyhow::Result<()> {
    let layout = Arc::new(load::layout(args.parameters));
    let params = Arc::new(load::params(&layout));
    let (server, worker) = Identity::for_a_run()?;
    let mut routes: [(&str, Option<usize>, Box<dyn Route>); 4] = [
        ("TCP", None, Box::new(raw::tcp(&params)?)),
        ("gRPC", Some(0), Box::new(Wire::open(&params, None)?)),
        ("TLS", None, Box::new(raw::rustls(&params)?)),
        (
            "gRPC with TLS",
            Some(2),
            Box::new(Wire::open(&params, Some((server, worker)))?),
        ),
    ];
    let mut rounds: [Vec<Round>; 4] = Default::default();
    // Buffers get their memory in a first round, which does not count.
    for (_, _, route) in &mut routes {
        route.round()?;
    }
    for _ in 0..args.rounds {
        for ((_, _, route), rounds) in routes.iter_mut().zip(&mut rounds) {
            rounds.push(route.round()?);
        }
    }
    let bytes = (layout.len() * size_of::<f32>()) as f64;
    say(format_args!(
        "{:.1} MB over loopback, medians of {} rounds",
        bytes / 1e6,
        args.rounds
    ));
    say("                      GB/s  ms of a core      share");
    say("                 pull push     pull push  pull push");
    for ((name, below, _), own) in routes.iter().zip(&rounds) {
        let median = |of: &dyn Fn(&Round) -> f64| median(own.iter().map(of).collect());
        let [pull, push] = SIDES.map(|side| median(&|round| bytes / side(round).secs / 1e9));
        let [pull_ms, push_ms] = SIDES.map(|side| median(&|round| side(round).cpu_secs * 1e3));
        let share = below.map(|below| {
            let [pull, push] = SIDES.map(|side| share(&rounds[below], own, side));
            format!("{pull:>6.2}{push:>5.2} of {}", routes[below].0)
        });
        say(format_args!(
            "{name:<14}{pull:>7.2}{push:>5.2}{pull_ms:>9.0}{push_ms:>5.0}{}",
            share.unwrap_or_default()
        ));
    }
    Ok(())
}

type Side = fn(&Round) -> Cost;

/// What there is to be told of a round.
const SIDES: [Side; 2] = [|round| round.pull, |round| round.push];

/// How fast a route is beside the one that lies below it, round by round.
fn share(below: &[Round], own: &[Round], side: Side) -> f64 {
    let pairs = below.iter().zip(own);
    median(
        pairs
            .map(|(below, own)| side(below).secs / side(own).secs)
            .collect(),
    )
}

/// A service and a worker of it, each with its own event loop, as they have in two processes.
struct Wire {
    messages: Receiver<Message>,
    inbox: UnboundedSender<Assignment>,
    params: Arc<Params>,
    buffers: Buffers,
    /// When work arrived at the worker, and when it began to push.
    moments: Receiver<Moment>,
    /// That the worker is to push.
    go: Sender<()>,
    lease: u64,
    _runtime: Runtime,
}

impl Wire {
    fn open(params: &Arc<Params>, identity: Option<(Identity, Identity)>) -> anyhow::Result<Self> {
        let runtime = Runtime::new()?;
        let (server, worker) = identity.unzip();
        let (sender, messages) = channel();
        let layout = params.layout();
        let buffers = Buffers::new(layout, 1);
        let token = Token::fresh();
        let service = Service::new(Terms {
            state_vectors: 0,
            token: token.clone(),
            layout: Arc::clone(layout),
            initial: None,
            dead_after: PATIENCE,
            buffers: buffers.clone(),
            messages: sender,
            numbers: Arc::default(),
            over: Arc::default(),
        });
        let listener = match server {
            Some(identity) => {
                let any_port = ([127, 0, 0, 1], 0).into();
                runtime.block_on(Listener::tcp(any_port, &identity))?
            }
            None => runtime.block_on(Listener::loopback())?,
        };
        let scheme = if worker.is_some() { "https" } else { "http" };
        let port = listener.address().context("a port has an address")?;
        let endpoint = link::Endpoint {
            address: format!("{scheme}://{port}"),
            identity: worker,
            token,
            host: "bench".to_owned(),
        };
        runtime.spawn(serve(listener, service)?);
        let (go, goes) = channel();
        let (told, moments) = channel();
        let layout = Arc::clone(layout);
        thread::spawn(move || work(&endpoint, &layout, &told, &goes));
        let inbox = loop {
            let message = messages.recv_timeout(PATIENCE);
            if let Message::Join { inbox, .. } = message.context("no worker joins")? {
                break inbox;
            }
        };
        Ok(Self {
            messages,
            inbox,
            params: Arc::clone(params),
            buffers,
            moments,
            go,
            lease: 0,
            _runtime: runtime,
        })
    }

    fn moment(&self) -> anyhow::Result<Moment> {
        self.moments
            .recv_timeout(PATIENCE)
            .context("the worker is gone")
    }
}

impl Route for Wire {
    fn round(&mut self) -> anyhow::Result<Round> {
        self.lease += 1;
        let started = Moment::now();
        let sent = self.inbox.send(Assignment {
            others_state: None,
            codecs: Codecs::default(),
            differences: None,
            lease: self.lease,
            job: Job::Train(vec![Batch {
                index: 0,
                epoch: 1,
                seed: 0,
                part: Part::WHOLE,
            }]),
            params: Snapshot::new(0, Arc::clone(&self.params)),
            transfer: TransferTimes::default(),
        });
        sent.ok().context("the worker is gone")?;
        let pull = started.until(self.moment()?);
        self.go.send(()).context("the worker is gone")?;
        let started = self.moment()?;
        loop {
            match self.messages.recv_timeout(PATIENCE)? {
                Message::Done {
                    outcome: Outcome::Gradient { gradient, .. },
                    ..
                } => {
                    let push = started.until(Moment::now());
                    self.buffers.give(gradient);
                    return Ok(Round { pull, push });
                }
                Message::Alive { .. } => {}
                Message::Lost { reason, .. } => bail!("the worker is lost: {reason}"),
                _ => bail!("the worker says something else"),
            }
        }
    }
}

/// A worker that computes nothing.
fn work(
    endpoint: &link::Endpoint,
    layout: &Arc<Layout>,
    told: &Sender<Moment>,
    goes: &Receiver<()>,
) -> Result<(), LinkError> {
    // As many as a worker process has.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Ok(());
    };
    let client = runtime.block_on(Client::open(endpoint))?;
    let mut link: Remote = client.join_blocking("bench/0", layout)?;
    let mut outcome = None;
    while let Some(assignment) = link.exchange(outcome.take())? {
        let arrived = told.send(Moment::now());
        let mut gradient = link.buffer();
        load::fill(&mut gradient);
        if arrived.is_err() || goes.recv().is_err() || told.send(Moment::now()).is_err() {
            break;
        }
        outcome = Some(Outcome::Gradient {
            state: None,
            lease: assignment.lease,
            report: Report {
                stats: load::stats(),
                ..Report::default()
            },
            gradient,
        });
    }
    Ok(())
}
