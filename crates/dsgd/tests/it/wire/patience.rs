//! What does not go on is given up, and what moves is not, however slowly. These tests wait most of the time.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dsgd::{Layout, Params, Snapshot};
use dsgd_engine::server::Message;
use dsgd_engine::wire::link::{Client, Endpoint};
use dsgd_engine::wire::proto::PushPart;
use dsgd_engine::worker::{Assignment, Link, Outcome, TransferTimes};
use tokio_stream::StreamExt;
use tonic::Code;

use crate::wire::{Served, assert_refused, head, join_request, nonce, train};

/// Transfers that rest last so long.
const STALL: Duration = Duration::from_secs(30);

/// Nonces, and sessions without a sign of life.
const NONCE: Duration = Duration::from_secs(60);

#[test]
fn a_nonce_a_session_and_a_transfer_that_rest_are_given_up() {
    let served = Served::new([("weight", [3])].into_iter().collect::<Layout>());
    let started = Instant::now();
    served.run(async {
        let mut client = served.client().await;
        let old = nonce(&mut client).await;
        let mut unborn = served.joined("h1/0").await;
        let mut worker = served.worker("h1/1").await;
        worker.given(1, train(), &served.layout).await;
        // A push that begins and then says nothing.
        let first = PushPart {
            part: Some(head(1)),
        };
        let rest = tokio_stream::pending::<PushPart>();
        let request = worker
            .caller
            .request(tokio_stream::iter([first]).chain(rest));
        let stalled = worker.caller.client.push(request);
        let stalled = tokio::time::timeout(2 * STALL, stalled).await.unwrap();
        assert_refused(stalled, Code::DeadlineExceeded, "nothing came");
        let waited = started.elapsed();
        assert!(waited >= STALL, "{waited:?}");
        thread::sleep((NONCE + Duration::from_millis(200)).saturating_sub(waited));
        let late = join_request(&served.endpoint.token, &old, "h1/2");
        assert_refused(client.join(late).await, Code::Unauthenticated, "nonce");
        // Whoever joins next finds the sessions tidied up.
        served.joined("h1/3").await;
        assert_refused(unborn.live().await, Code::NotFound, "void");
    });
}

/// Bytes a second of the slow way.
const RATE: usize = 120_000;

/// A way to that port on which bytes towards it pass no faster than [`RATE`].
fn slow_way(to: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(&to).unwrap());
            let (mut back, mut from) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut back));
            thread::spawn(move || pour(near, far));
        }
    });
    format!("http://{address}")
}

fn pour(mut near: TcpStream, mut far: TcpStream) {
    let mut some = [0; RATE / 20];
    while let Ok(read @ 1..) = near.read(&mut some) {
        if far.write_all(&some[..read]).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(1000 * read as u64 / RATE as u64));
    }
}

/// A whole push fits into the buffers on the way, and is handed over at once; it arrives long after everything
/// that waits for an answer would have given up.
#[test]
fn a_push_that_arrives_slowly_is_not_given_up() {
    let numbers = RATE * 40 / size_of::<f32>();
    let layout = [("weight", [numbers])].into_iter().collect::<Layout>();
    let served = Served::on_a_port(layout);
    let to = served
        .endpoint
        .address
        .trim_start_matches("http://")
        .to_owned();
    let endpoint = Endpoint {
        address: slow_way(to),
        ..served.endpoint.clone()
    };
    let client = served.run(Client::open(&endpoint)).unwrap();
    let layout = Arc::clone(&served.layout);
    let worker = thread::spawn(move || {
        let mut link = client.join_blocking("h1/0", &layout).unwrap();
        let assignment = link.exchange(None).unwrap().unwrap();
        let mut gradient = link.buffer();
        gradient.clear();
        let report = dsgd_core::core::Report::default();
        let lease = assignment.lease;
        drop(assignment);
        link.exchange(Some(Outcome::Gradient {
            lease,
            report,
            gradient,
            state: None,
        }))
        .map(|next| next.is_none())
        .map_err(|error| error.to_string())
    });
    let Message::Join { inbox, .. } = served.news() else {
        panic!("nobody came");
    };
    let given = inbox.send(Assignment {
        lease: 1,
        job: train(),
        params: Snapshot::new(0, Arc::new(Params::zeros(Arc::clone(&served.layout)))),
        codecs: dsgd_core::codec::Codecs::default(),
        differences: None,
        others_state: None,
        transfer: TransferTimes::default(),
    });
    assert!(given.is_ok());
    let started = Instant::now();
    // It is seen on its way, so that its lease is no worry.
    let mut moved = 0;
    let done = loop {
        match served.message() {
            Message::Alive { transfers, .. } => moved += usize::from(transfers),
            other => break other,
        }
    };
    assert!(matches!(done, Message::Done { .. }));
    assert!(started.elapsed() > STALL, "{:?}", started.elapsed());
    assert!(moved > 10, "seen {moved} times");
    served
        .over
        .store(true, std::sync::atomic::Ordering::Relaxed);
    drop(inbox);
    assert_eq!(worker.join().unwrap(), Ok(true));
}
