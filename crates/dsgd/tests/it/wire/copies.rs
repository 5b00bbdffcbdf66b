//! Who has nothing gets the public copy in a quarter of its bytes, and what that leaves out with its next pull.

use std::sync::Arc;
use std::thread;

use dsgd::{Layout, Params};
use dsgd_core::codec::{Codec, Codecs};
use dsgd_core::optim::{Hyper, OptimizerKind, StepSize};
use dsgd_core::params::{Gradient, TensorId};
use dsgd_engine::server::Message;
use dsgd_engine::store::{InMemory, Store, Updater, Versions};
use dsgd_engine::wire::link::{Client, Newest, Remote};
use dsgd_engine::worker::{Assignment, Buffers, Link, Outcome, TransferTimes};

use crate::wire::{Served, train};

fn layout() -> Layout {
    let mut layout = Layout::new();
    layout.dense("weight", &[3, 5000]);
    layout.rows("table", 50, 300);
    layout
}

/// The largest difference from the copy, which is within ±1 in each block.
fn far(params: &Params, copy: &Params) -> f32 {
    let pairs = params.flat().iter().zip(copy.flat());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A store at version 1 whose initial parameters nobody else has.
fn store(layout: &Arc<Layout>) -> InMemory {
    let mut start = Params::zeros(Arc::clone(layout));
    for (at, value) in start.flat_mut().iter_mut().enumerate() {
        *value = (at as f32 * 0.7).sin();
    }
    let updater = Updater::new(OptimizerKind::Sgd, Hyper::default(), Arc::clone(layout));
    let versions = Versions::new(updater, start);
    let mut store = InMemory::new(versions, Buffers::new(layout, 1), 1);
    store = store.with_public_copy(Codec::Int4);
    step(&mut store, layout, 1);
    store
}

fn step(store: &mut InMemory, layout: &Arc<Layout>, lease: u64) {
    let mut gradient = Gradient::new(Arc::clone(layout));
    gradient.dense(TensorId(0)).fill(0.5);
    store.hold(lease, Box::new(gradient), 1);
    let size = StepSize {
        learning_rate: 0.01,
        scale: 1.0,
    };
    store.apply(lease, size);
}

/// What a worker is given, and the copy that it should have.
fn work(store: &mut InMemory, lease: u64) -> (Assignment, Arc<Params>) {
    let (params, differences) = store.snapshot_for_copy(None);
    let copy = Arc::new(Params::clone(&params.params));
    let assignment = Assignment {
        lease,
        job: train(),
        params,
        codecs: Codecs {
            push: Codec::Int4,
            pull: Codec::Int4,
        },
        differences,
        others_state: None,
        transfer: TransferTimes::default(),
    };
    (assignment, copy)
}

/// Pulls as often as there are expectations: how far what came may be from the copy, at least and at most.
fn pulls(link: &mut Remote, copies: &[Arc<Params>], expected: &[(f32, f32)]) {
    let mut done = None;
    for (copy, &(least, most)) in copies.iter().zip(expected) {
        let given = link.exchange(done.take()).unwrap().unwrap();
        let far = far(&given.params, copy);
        assert!(
            (least..=most).contains(&far),
            "version {}: {far}",
            given.params.version
        );
        let mut gradient = link.buffer();
        gradient.clear();
        done = Some(Outcome::Gradient {
            lease: given.lease,
            report: dsgd_core::core::Report::default(),
            gradient,
            state: None,
        });
    }
}

/// A worker of the slot pulls so many versions, one after the other. Which of those that it then pushed for were more than
/// what is new.
fn joins(
    served: &Served,
    store: &mut InMemory,
    newest: &Newest,
    name: &'static str,
    expected: &[(f32, f32)],
) -> Vec<bool> {
    let client = served.run(Client::open(&served.endpoint)).unwrap();
    let layout = Arc::clone(&served.layout);
    let (works, copies): (Vec<_>, Vec<_>) = expected
        .iter()
        .map(|_| {
            let lease = store.version() + 1;
            let work = work(store, lease);
            step(store, &layout, lease);
            work
        })
        .unzip();
    let (newest, expected) = (newest.clone(), expected.to_vec());
    let worker = thread::spawn(move || {
        let mut link = client.join_blocking(name, &layout).unwrap();
        link.share(newest);
        pulls(&mut link, &copies, &expected);
    });
    let inbox = loop {
        match served.news() {
            Message::Join {
                inbox, name: who, ..
            } if who == name => break inbox,
            _ => {}
        }
    };
    for work in works {
        assert!(inbox.send(work).is_ok());
    }
    worker.join().unwrap();
    let pushed = std::iter::from_fn(|| served.messages.try_recv().ok());
    let caught_up = pushed.filter_map(|message| match message {
        Message::Done {
            outcome: Outcome::Gradient { report, .. },
            ..
        } => Some(report.cost.catches_up),
        _ => None,
    });
    caught_up.collect()
}

/// Eight bits an element.
const COARSE: (f32, f32) = (0.0005, 0.6 / 127.0);
/// Sixteen.
const NEARLY: (f32, f32) = (f32::MIN_POSITIVE, 1.0 / 32768.0);

#[test]
fn who_has_nothing_gets_most_of_it_first_and_the_rest_next() {
    for served in [Served::new(layout()), Served::behind_tls(layout())] {
        let mut store = store(&served.layout);
        let newest = Newest::default();
        let expected = [COARSE, NEARLY, NEARLY, NEARLY];
        let caught_up = joins(&served, &mut store, &newest, "h1/0", &expected);
        assert_eq!(caught_up, [true, true, false]);
        // It begins with what the first one has pulled last.
        let caught_up = joins(&served, &mut store, &newest, "h1/1", &[NEARLY; 2]);
        assert_eq!(caught_up, [false]);
    }
}

/// Whoever shares a slot with one that began from nothing is not given what that one is short of.
#[test]
fn what_is_short_of_something_is_nobody_elses_beginning() {
    let served = Served::new(layout());
    let mut store = store(&served.layout);
    let newest = Newest::default();
    for name in ["h1/0", "h1/1"] {
        joins(&served, &mut store, &newest, name, &[COARSE]);
    }
}
