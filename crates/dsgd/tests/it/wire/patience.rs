//! What does not go on is given up: each wait has an end. One test, because all it does is wait.

use std::thread;
use std::time::{Duration, Instant};

use dsgd::Layout;
use dsgd::wire::proto::PushPart;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::wire::{Served, TRAIN, assert_refused, head, join_request, nonce};

/// Nonces, sessions without a sign of life and transfers last so long.
const ALL_LAST: Duration = Duration::from_secs(30);

#[test]
fn a_nonce_a_session_and_a_transfer_that_rest_are_given_up() {
    let served = Served::new([("weight", [3])].into_iter().collect::<Layout>());
    let started = Instant::now();
    served.run(async {
        let mut client = served.client().await;
        let old = nonce(&mut client).await;
        let mut unborn = served.joined("h1/0").await;
        let mut worker = served.worker("h1/1").await;
        worker.given(1, TRAIN, &served.layout).await;
        // A push that begins and then says nothing.
        let first = PushPart {
            part: Some(head(1)),
        };
        let rest = tokio_stream::pending::<PushPart>();
        let request = worker
            .caller
            .request(tokio_stream::iter([first]).chain(rest));
        let stalled = worker.caller.client.push(request);
        let stalled = tokio::time::timeout(2 * ALL_LAST, stalled).await.unwrap();
        assert_refused(stalled, Code::DeadlineExceeded, "nothing came");
        let waited = started.elapsed();
        assert!(waited >= ALL_LAST, "{waited:?}");
        thread::sleep(Duration::from_millis(200));
        let late = join_request(&served.way.token, &old, "h1/2");
        assert_refused(client.join(late).await, Code::Unauthenticated, "nonce");
        // Whoever joins next finds the desk tidied up.
        served.joined("h1/3").await;
        assert_refused(unborn.live().await, Code::NotFound, "void");
    });
}
