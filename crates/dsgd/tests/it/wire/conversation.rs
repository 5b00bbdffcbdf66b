//! Every limit on what a worker may say to the server.

use dsgd::{Layout, TensorId};
use dsgd_engine::server::Message;
use dsgd_engine::wire::CHUNK;
use dsgd_engine::wire::proto::{self, PushPart, pull_part, push_part};
use dsgd_engine::worker::{Job, Outcome};
use tonic::{Code, Request};

use crate::wire::{
    Caller, Served, assert_refused, evaluated, failed, head, hello, join_request, nonce, stats,
    train,
};

/// Names and hosts have so many bytes at most, and reasons.
const MOST_NAME: usize = 256;
const MOST_REASON: usize = 1024;

/// Nonces that are good at one time.
const MOST_NONCES: usize = 4096;

fn small() -> Layout {
    [("weight", [3])].into_iter().collect()
}

/// The small model's gradient, as it travels.
fn chunk() -> push_part::Part {
    let values = [1u8; 12];
    push_part::Part::Chunk(proto::Chunk {
        tensor: 0,
        offset: 0,
        values: values.to_vec().into(),
        crc32: Some(crc32fast::hash(&values)),
    })
}

#[test]
fn versions_differ_in_words() {
    let served = Served::new(small());
    served.run(async {
        let mut client = served.client().await;
        let other = client.hello(hello(1, "dsgd 0.0.9", "h2")).await;
        let version = env!("CARGO_PKG_VERSION");
        let words = format!(
            "worker on h2 is dsgd 0.0.9 (protocol 1), server {version} (protocol 2): run the same program on both"
        );
        assert_refused(other, Code::FailedPrecondition, &words);
        let other = client.hello(hello(3, "trainer 7", "h2")).await;
        let words = format!("worker on h2 is trainer 7 (protocol 3), server {version} (protocol 2)");
        assert_refused(other, Code::FailedPrecondition, &words);
        // A program of another kind is welcome when it speaks the protocol.
        let reply = client.hello(hello(2, "trainer 7", "h2")).await.unwrap();
        assert_eq!(reply.into_inner().nonce.len(), 32);
        // Nobody's name fills a message.
        let long = "ü".repeat(5000);
        let other = client.hello(hello(2, &format!("dsgd {long}"), &long)).await;
        let message = other.unwrap_err().message().to_owned();
        assert!(message.len() < 2 * MOST_NAME + 200, "{message}");
        assert!(message.contains(&"ü".repeat(MOST_NAME / 2)), "{message}");
    });
}

#[test]
fn a_name_has_its_length() {
    let served = Served::new(small());
    served.run(async {
        let mut client = served.client().await;
        for (len, fits) in [
            (0, false),
            (1, true),
            (MOST_NAME, true),
            (MOST_NAME + 1, false),
        ] {
            let nonce = nonce(&mut client).await;
            let request = join_request(&served.endpoint.token, &nonce, &"n".repeat(len));
            let reply = client.join(request).await;
            if fits {
                reply.unwrap();
            } else {
                assert_refused(reply, Code::InvalidArgument, "1 to 256 bytes");
            }
        }
    });
}

#[test]
fn who_does_not_know_the_token_is_nobody() {
    let served = Served::new(small());
    served.run(async {
        let mut client = served.client().await;
        let other = dsgd_engine::wire::credentials::Token::fresh();
        let given = nonce(&mut client).await;
        let reply = client.join(join_request(&other, &given, "h1/0")).await;
        assert_refused(reply, Code::Unauthenticated, "wrong token");
        // One try a nonce: with the right token it is too late now.
        let right = join_request(&served.endpoint.token, &given, "h1/0");
        assert_refused(client.join(right).await, Code::Unauthenticated, "");
        // A proof is of one name.
        let given = nonce(&mut client).await;
        let mut request = join_request(&served.endpoint.token, &given, "h1/0");
        request.name = "h1/1".to_owned();
        assert_refused(client.join(request).await, Code::Unauthenticated, "");
        // Part of a proof is none.
        let given = nonce(&mut client).await;
        let mut request = join_request(&served.endpoint.token, &given, "h1/0");
        request.proof.truncate(31);
        assert_refused(client.join(request).await, Code::Unauthenticated, "");
    });
    assert_eq!(served.service.sessions(), 0);
}

#[test]
fn a_nonce_is_good_once() {
    let served = Served::new(small());
    served.run(async {
        let mut client = served.client().await;
        let given = nonce(&mut client).await;
        let request = join_request(&served.endpoint.token, &given, "h1/0");
        client.join(request.clone()).await.unwrap();
        assert_refused(client.join(request).await, Code::Unauthenticated, "nonce");
        // Nor is one that was never given.
        let request = join_request(&served.endpoint.token, &[7; 32], "h1/0");
        assert_refused(client.join(request).await, Code::Unauthenticated, "nonce");
        // With more than anybody needs, the oldest is forgotten.
        let first = nonce(&mut client).await;
        let second = nonce(&mut client).await;
        for _ in 0..MOST_NONCES - 1 {
            nonce(&mut client).await;
        }
        let late = join_request(&served.endpoint.token, &first, "h1/0");
        assert_refused(client.join(late).await, Code::Unauthenticated, "nonce");
        let in_time = join_request(&served.endpoint.token, &second, "h1/0");
        client.join(in_time).await.unwrap();
    });
}

#[test]
fn every_call_wants_a_session_that_holds() {
    let served = Served::new(small());
    served.run(async {
        let mut client = served.client().await;
        let pull = || proto::PullRequest {
            wait_ms: 1,
            have: None,
            near: None,
        };
        let push = || tokio_stream::iter(vec![PushPart::default()]);
        let live = || tokio_stream::iter(vec![proto::Pulse::default()]);
        let leave = || proto::LeaveRequest::default();
        let (code, words) = (Code::Unauthenticated, "no session");
        assert_refused(client.pull(Request::new(pull())).await, code, words);
        assert_refused(client.push(Request::new(push())).await, code, words);
        assert_refused(client.live(Request::new(live())).await, code, words);
        assert_refused(client.leave(Request::new(leave())).await, code, words);
        let mut other = served.joined("h1/0").await;
        let true_session = other.session.clone();
        for wrong in [&"0".repeat(64), "", &true_session[..63]] {
            other.session = wrong.to_owned();
            let (code, words) = (Code::NotFound, "session is void");
            assert_refused(client.pull(other.request(pull())).await, code, words);
            assert_refused(client.push(other.request(push())).await, code, words);
            assert_refused(client.live(other.request(live())).await, code, words);
            assert_refused(client.leave(other.request(leave())).await, code, words);
        }
        // A session is over when its worker leaves.
        other.session = true_session;
        client.leave(other.request(leave())).await.unwrap();
        assert_refused(other.pull(1).await, Code::NotFound, "void");
    });
    assert!(matches!(served.news(), Message::Lost { worker: 0, .. }));
}

#[test]
fn a_worker_lives_once_and_pulls_one_thing_at_a_time() {
    let served = Served::new(small());
    served.run(async {
        let mut worker = served.worker("h1/0").await;
        let again = worker.caller.live().await;
        assert_refused(again, Code::AlreadyExists, "lives already");
        let mut twin = Caller {
            client: served.client().await,
            worker: worker.caller.worker,
            session: worker.caller.session.clone(),
        };
        let first = worker.caller.pull(2000);
        let second = async {
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            twin.pull(1).await
        };
        let (first, second) = tokio::join!(first, second);
        assert_refused(second, Code::Aborted, "pulls already");
        assert_eq!(first.unwrap(), [pull_part::Part::Wait(proto::Wait {})]);
    });
}

#[test]
fn a_push_is_of_the_work_that_its_worker_has() {
    let served = Served::new(small());
    served.run(async {
        let (code, none) = (Code::InvalidArgument, "but has none");
        let mut worker = served.worker("h1/0").await;
        let mut other = served.worker("h1/1").await;
        let early = worker.caller.push(vec![head(1), chunk()]).await;
        assert_refused(early, code, none);
        worker.given(7, train(), &served.layout).await;
        other.given(8, Job::Validate(0), &served.layout).await;
        // Another's, one that was never given, and its own as something else.
        let words = "h1/0 speaks of lease 8, but has lease 7";
        let foreign = worker.caller.push(vec![head(8), chunk()]).await;
        assert_refused(foreign, code, words);
        let foreign = worker.caller.push(vec![failed(8, "")]).await;
        assert_refused(foreign, code, words);
        assert_refused(
            worker.caller.push(vec![evaluated(7)]).await,
            code,
            "lease 7",
        );
        assert_refused(
            other.caller.push(vec![head(8), chunk()]).await,
            code,
            "lease 8",
        );
        // After all that its own is taken, once.
        worker.caller.push(vec![head(7), chunk()]).await.unwrap();
        let again = worker.caller.push(vec![head(7), chunk()]).await;
        assert_refused(again, code, none);
        other.caller.push(vec![evaluated(8)]).await.unwrap();
        assert_refused(other.caller.push(vec![evaluated(8)]).await, code, none);
        let failure = other.caller.push(vec![failed(8, "")]).await;
        assert_refused(failure, code, none);
    });
    let done = |message| match message {
        Message::Done { worker, outcome } => (worker, matches!(outcome, Outcome::Gradient { .. })),
        _ => panic!("another message"),
    };
    assert_eq!(done(served.news()), (0, true));
    assert_eq!(done(served.news()), (1, false));
}

#[test]
fn a_push_is_one_thing_from_beginning_to_end() {
    let served = Served::new(small());
    served.run(async {
        let code = Code::InvalidArgument;
        let mut worker = served.worker("h1/0").await;
        let begins = "begins with Gradient";
        assert_refused(worker.caller.push(vec![chunk()]).await, code, begins);
        assert_refused(worker.caller.push(vec![]).await, code, begins);
        let request = worker
            .caller
            .request(tokio_stream::iter(vec![PushPart { part: None }]));
        let empty = worker.caller.client.push(request).await;
        assert_refused(empty, code, "an empty part");
        // What is wrong in the middle ends the worker: its work is not done, and goes to another.
        let wrong: [(Vec<push_part::Part>, &str); 4] = [
            (vec![head(1), head(1)], "no part of a gradient"),
            (vec![head(1), failed(1, "")], "no part of a gradient"),
            (vec![head(1)], "ended before tensor weight, element 0"),
            (
                vec![head(1), chunk(), chunk()],
                "went on after the last tensor",
            ),
        ];
        for (parts, words) in wrong {
            worker.given(1, train(), &served.layout).await;
            assert_refused(worker.caller.push(parts).await, code, words);
            let number = worker.caller.worker;
            // Those before it are lost once more, by the end of their connections.
            let reason = loop {
                match served.news() {
                    Message::Lost { worker, reason } if worker == number => break reason,
                    Message::Lost { .. } => {}
                    _ => panic!("not lost"),
                }
            };
            assert!(reason.contains(words), "{reason}");
            let void = worker.caller.pull(1).await;
            assert_refused(void, Code::NotFound, "void");
            worker = served.worker("h1/0").await;
        }
        worker.given(1, train(), &served.layout).await;
        worker.caller.push(vec![head(1), chunk()]).await.unwrap();
    });
    let gradient = loop {
        match served.news() {
            Message::Done {
                outcome: Outcome::Gradient { gradient, .. },
                ..
            } => break gradient,
            Message::Lost { .. } => {}
            _ => panic!("something of the others arrived"),
        }
    };
    // One buffer served them all: a broken push gives it back.
    served.buffers.give(gradient);
    let mut gradient = served.buffers.take();
    assert_eq!(gradient.dense(TensorId(0)), [f32::from_le_bytes([1; 4]); 3]);
}

#[test]
fn counts_are_no_larger_than_their_sums_can_be() {
    let served = Served::new(small());
    served.run(async {
        let mut worker = served.worker("h1/0").await;
        let most = 1 << 40;
        let fields: [fn(&mut proto::Stats) -> &mut u64; 4] = [
            |s| &mut s.count,
            |s| &mut s.examples,
            |s| &mut s.units[0],
            |s| &mut s.units[1],
        ];
        for field in fields {
            let of = |count| {
                let mut stats = stats();
                *field(&mut stats) = count;
                let stats = Some(stats);
                push_part::Part::Evaluated(proto::Evaluated { lease: 1, stats })
            };
            for count in [most + 1, u64::MAX] {
                worker.given(1, Job::Validate(0), &served.layout).await;
                let result = worker.caller.push(vec![of(count)]).await;
                assert_refused(result, Code::InvalidArgument, "a count above 2^40");
                worker = served.worker("h1/0").await;
            }
            worker.given(1, Job::Validate(0), &served.layout).await;
            worker.caller.push(vec![of(most)]).await.unwrap();
        }
        let wrong = [
            (vec![0; 3], vec![], "more than 2 units"),
            (vec![], vec![0.0; 9], "more than 8 sums"),
        ];
        for (units, sums, why) in wrong {
            let stats = Some(proto::Stats {
                units,
                sums,
                ..stats()
            });
            let evaluated = push_part::Part::Evaluated(proto::Evaluated { lease: 1, stats });
            worker.given(1, Job::Validate(0), &served.layout).await;
            let result = worker.caller.push(vec![evaluated]).await;
            assert_refused(result, Code::InvalidArgument, why);
            worker = served.worker("h1/0").await;
        }
        worker.given(1, train(), &served.layout).await;
        let stats = None;
        let evaluated = push_part::Part::Gradient(proto::Gradient {
            lease: 1,
            stats,
            ..proto::Gradient::default()
        });
        let result = worker.caller.push(vec![evaluated, chunk()]).await;
        assert_refused(result, Code::InvalidArgument, "no stats");
    });
}

/// Times that a worker tells go into sums and onto pages: what is no time is none.
#[test]
fn seconds_that_make_no_sense_are_none() {
    let served = Served::new(small());
    for (told, taken) in [
        (f64::NAN, 0.0),
        (f64::INFINITY, 0.0),
        (-1.0, 0.0),
        (1e300, 1e9),
        (2.5, 2.5),
    ] {
        served.run(async {
            let mut worker = served.worker("h1/0").await;
            worker.given(1, train(), &served.layout).await;
            let head = push_part::Part::Gradient(proto::Gradient {
                lease: 1,
                stats: Some(stats()),
                compute_secs: told,
                wait_secs: told,
                pull_secs: told,
            });
            worker.caller.push(vec![head, chunk()]).await.unwrap();
            let Message::Done {
                outcome: Outcome::Gradient { report, .. },
                ..
            } = served.news()
            else {
                panic!("no gradient");
            };
            let cost = report.cost;
            let all = [cost.compute_secs, cost.wait_secs, cost.pull_secs];
            assert_eq!(format!("{all:?}"), format!("{:?}", [taken; 3]), "{told}");
            worker
                .caller
                .client
                .leave(worker.caller.request(proto::LeaveRequest::default()))
                .await
                .unwrap();
        });
        while !matches!(served.news(), Message::Lost { .. }) {}
    }
}

#[test]
fn a_reason_is_cut_where_it_is_too_long() {
    let served = Served::new(small());
    // A character of two bytes stands across the limit.
    let long = format!("x{}", "ü".repeat(MOST_REASON));
    let cut = &long[..MOST_REASON - 1];
    served.run(async {
        let mut worker = served.worker("h1/0").await;
        worker.given(1, train(), &served.layout).await;
        worker.caller.push(vec![failed(1, &long)]).await.unwrap();
        match served.news() {
            Message::Done {
                outcome: Outcome::Failed { reason, .. },
                ..
            } => assert_eq!(reason, cut),
            _ => panic!("no failure"),
        }
        let reason = long.clone();
        let leave = worker.caller.request(proto::LeaveRequest { reason });
        worker.caller.client.leave(leave).await.unwrap();
    });
    match served.news() {
        Message::Lost { reason, .. } => assert_eq!(reason, cut),
        _ => panic!("nobody left"),
    }
}

#[test]
fn a_message_is_no_larger_than_a_chunk_and_what_goes_with_it() {
    let served = Served::new(small());
    served.run(async {
        let mut worker = served.worker("h1/0").await;
        let fits = "r".repeat(CHUNK + 60_000);
        worker.given(1, train(), &served.layout).await;
        worker.caller.push(vec![failed(1, &fits)]).await.unwrap();
        // Less than gRPC allows without being told.
        let large = "r".repeat(CHUNK + 70_000);
        worker.given(2, train(), &served.layout).await;
        let result = worker.caller.push(vec![failed(2, &large)]).await;
        assert_refused(result, Code::OutOfRange, "message length too large");
        // In a small call, too.
        let mut client = served.client().await;
        let reply = client.hello(hello(1, &large, "h1")).await;
        assert_refused(reply, Code::OutOfRange, "message length too large");
    });
}

/// When the worker says that its task has panicked, it is gone: nothing is taken from it any more.
#[test]
fn a_failure_that_is_fatal_ends_the_session() {
    let served = Served::new(small());
    served.run(async {
        let mut worker = served.worker("h1/0").await;
        worker.given(1, train(), &served.layout).await;
        let fatal = push_part::Part::Failed(proto::Failed {
            lease: 1,
            reason: "so it goes".to_owned(),
            fatal: true,
        });
        worker.caller.push(vec![fatal]).await.unwrap();
        assert_refused(worker.caller.pull(1).await, Code::NotFound, "void");
    });
    let Message::Done {
        outcome: Outcome::Panicked { reason, .. },
        ..
    } = served.news()
    else {
        panic!("no panic");
    };
    assert_eq!(reason, "so it goes");
}

/// The end of a worker's signs of life is its end.
#[test]
fn who_closes_its_connection_is_lost() {
    let served = Served::new(small());
    let session = served.run(async {
        let worker = served.worker("h1/0").await;
        worker.caller.session.clone()
    });
    match served.news() {
        Message::Lost { worker: 0, .. } => {}
        _ => panic!("not lost"),
    }
    served.run(async {
        let mut caller = served.joined("h1/0").await;
        assert_eq!(caller.worker, 1, "a number is never given twice");
        caller.session = session;
        assert_refused(caller.pull(1).await, Code::NotFound, "void");
    });
}
