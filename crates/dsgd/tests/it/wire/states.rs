//! What a worker's own optimizer keeps reaches who joins later, and only what it can be.

use std::sync::Arc;
use std::thread;

use dsgd::{Layout, Params, Snapshot};
use dsgd_core::codec::{Codec, Codecs};
use dsgd_engine::own_state::OwnState;
use dsgd_engine::server::Message;
use dsgd_engine::wire::link::{Client, Remote};
use dsgd_engine::wire::proto::{self, StatePart, state_part};
use dsgd_engine::worker::{Assignment, Job, Link, Outcome, TransferTimes};
use tonic::Code;

use crate::wire::{Served, train};

fn layout() -> Layout {
    let mut layout = Layout::new();
    layout.dense("weight", &[3, 200]);
    layout.rows("table", 50, 300);
    layout
}

/// Sums of squares of many magnitudes; of the table two rows were touched.
fn sums(layout: &Arc<Layout>) -> Params {
    let mut sums = Params::zeros(Arc::clone(layout));
    for (at, value) in sums.flat_mut().iter_mut().enumerate() {
        let row = at.saturating_sub(600) / 300;
        if at < 600 || row == 7 || row == 40 {
            *value = 10f32.powi(i32::from((at % 12) as u8) - 9) * (1.0 + at as f32 * 1e-3);
        }
    }
    sums
}

/// What comes of it on the way: blocks begin with each dense tensor, and with each row.
fn rounded(mut params: Params) -> Vec<f32> {
    let (dense, table) = params.flat_mut().split_at_mut(600);
    Codec::Log8.round(dense);
    table.chunks_mut(300).for_each(|row| Codec::Log8.round(row));
    params.flat().to_vec()
}

fn assignment(layout: &Arc<Layout>, lease: u64, others_state: Option<OwnState>) -> Assignment {
    Assignment {
        lease,
        job: train(),
        params: Snapshot::new(0, Arc::new(Params::zeros(Arc::clone(layout)))),
        codecs: Codecs::default(),
        differences: None,
        others_state: others_state.map(Arc::new),
        transfer: TransferTimes::default(),
    }
}

fn tell(link: &mut Remote, layout: &Arc<Layout>, steps: u64) {
    let assignment = link.exchange(None).unwrap().unwrap();
    assert!(link.others_state().unwrap().is_none(), "nobody has told");
    let mut gradient = link.buffer();
    gradient.clear();
    let vectors = vec![Arc::new(sums(layout))];
    let _ = link.exchange(Some(Outcome::Gradient {
        lease: assignment.lease,
        report: dsgd_core::core::Report::default(),
        gradient,
        state: Some(OwnState { steps, vectors }),
    }));
}

#[test]
fn a_state_reaches_who_joins_later() {
    for served in [Served::new(layout()), Served::behind_tls(layout())] {
        let client = served.run(Client::open(&served.endpoint)).unwrap();
        let layout = Arc::clone(&served.layout);
        let first = {
            let (client, layout) = (client.clone(), Arc::clone(&layout));
            thread::spawn(move || {
                tell(
                    &mut client.join_blocking("h1/0", &layout).unwrap(),
                    &layout,
                    40,
                );
            })
        };
        let Message::Join { inbox, .. } = served.news() else {
            panic!("nobody came");
        };
        assert!(inbox.send(assignment(&layout, 1, None)).is_ok());
        // It is told on a way of its own, and may come before what it goes with.
        let state = loop {
            match served.news() {
                Message::OwnState { state } => break state,
                Message::Done { outcome, .. } => {
                    assert!(matches!(outcome, Outcome::Gradient { state: None, .. }));
                }
                _ => panic!("something else"),
            }
        };
        drop(inbox);
        first.join().unwrap();
        let wanted = rounded(sums(&layout));
        assert_eq!(state.steps, 40);
        assert_eq!(state.vectors.len(), 1);
        assert_eq!(state.vectors[0].flat(), wanted);

        let second = {
            let (client, layout) = (client.clone(), Arc::clone(&layout));
            thread::spawn(move || {
                let mut link = client.join_blocking("h1/1", &layout).unwrap();
                let given = link.exchange(None).unwrap().unwrap();
                assert!(matches!(given.job, Job::Train(_)));
                link.others_state().unwrap().unwrap()
            })
        };
        let inbox = loop {
            match served.news() {
                Message::Join { inbox, name, .. } if name == "h1/1" => break inbox,
                _ => {}
            }
        };
        assert!(inbox.send(assignment(&layout, 2, Some(state))).is_ok());
        let state = second.join().unwrap();
        assert_eq!(state.steps, 40);
        assert_eq!(
            state.vectors[0].flat(),
            wanted,
            "rounding it again changes nothing"
        );
    }
}

#[test]
fn a_state_that_cannot_be_is_refused() {
    use state_part::Part::{Chunk, Head};
    let mut layout = Layout::new();
    layout.dense("weight", &[2]);
    let served = Served::new(layout);
    let head = |codec, fresh: &'static [u8]| {
        let vector = proto::StateVector {
            codec,
            fresh: fresh.into(),
        };
        Head(proto::StateHead {
            steps: 3,
            vectors: vec![vector],
        })
    };
    let chunk = |values: Vec<u8>| {
        let crc32 = Some(crc32fast::hash(&values));
        Chunk(proto::Chunk {
            tensor: 0,
            offset: 0,
            values: values.into(),
            crc32,
        })
    };
    let floats = |values: [f32; 2]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let log8 = |scale: f32| [&scale.to_le_bytes()[..], &[255, 9]].concat();
    let none = Head(proto::StateHead::default());
    let many = Head(proto::StateHead {
        steps: 3,
        vectors: vec![proto::StateVector::default(); 9],
    });
    let (f32s, logs) = (Codec::None.id(), Codec::Log8.id());
    let cases: Vec<(&str, Vec<state_part::Part>)> = vec![
        ("no state", vec![]),
        ("begins with its head", vec![chunk(floats([1.0, 2.0]))]),
        ("another optimizer's state", vec![none]),
        ("more vectors than", vec![many]),
        ("an unknown codec", vec![head(77, &[2])]),
        ("ended before tensor weight", vec![head(f32s, &[2])]),
        ("a second head", vec![head(f32s, &[2]), head(f32s, &[2])]),
        (
            "cannot have",
            vec![head(f32s, &[2]), chunk(floats([1.0, f32::NAN]))],
        ),
        ("cannot have", vec![head(logs, &[2]), chunk(log8(-1.0))]),
        (
            "cannot have",
            vec![head(logs, &[2]), chunk(log8(f32::INFINITY))],
        ),
        (
            "more than it has",
            vec![head(logs, &[2]), chunk(log8(1.0)), chunk(log8(1.0))],
        ),
        ("what is new", vec![head(f32s, &[2, 2])]),
    ];
    served.run(async {
        let mut worker = served.worker("h1/0").await;
        for (words, parts) in cases {
            let parts = parts.into_iter().map(|part| StatePart { part: Some(part) });
            let parts: Vec<_> = parts.collect();
            let request = worker.caller.request(tokio_stream::iter(parts));
            let refused = worker.caller.client.push_state(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{words}: {refused}");
            let said = refused.message();
            assert!(said.contains(words), "{said:?} does not say {words:?}");
        }
        let parts = [head(logs, &[2]), chunk(log8(1.0))];
        let parts = parts.map(|part| StatePart { part: Some(part) });
        let request = worker.caller.request(tokio_stream::iter(parts));
        worker.caller.client.push_state(request).await.unwrap();
    });
    let Message::OwnState { state } = served.news() else {
        panic!("something else than the last one has come");
    };
    assert_eq!(state.steps, 3);
}
