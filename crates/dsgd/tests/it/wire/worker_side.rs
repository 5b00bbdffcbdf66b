//! A worker whose server makes mistakes: each is told in words, and none is believed.

use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use dsgd::Layout;
use dsgd_engine::wire::credentials::Token;
use dsgd_engine::wire::link::{Client, Endpoint, LinkError};
use dsgd_engine::wire::proto::dsgd_server::{Dsgd, DsgdServer};
use dsgd_engine::wire::proto::{self, PullPart, Pulse, PushPart, pull_part};
use dsgd_engine::wire::{CHUNK, MOST_LAYOUT};
use dsgd_engine::worker::Link;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::codegen::BoxStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// A server that says what the test wants.
#[derive(Clone, Default)]
struct Mistaken {
    refuses: Option<Status>,
    refuses_life: Option<Status>,
    session: String,
    layout: Vec<proto::Tensor>,
    pull: Vec<PullPart>,
}

#[tonic::async_trait]
impl Dsgd for Mistaken {
    async fn hello(
        &self,
        _: Request<proto::HelloRequest>,
    ) -> Result<Response<proto::HelloReply>, Status> {
        match &self.refuses {
            Some(status) => Err(status.clone()),
            None => Ok(Response::new(proto::HelloReply::default())),
        }
    }

    async fn join(
        &self,
        _: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::JoinReply>, Status> {
        Ok(Response::new(proto::JoinReply {
            worker: 1,
            session: self.session.clone(),
            layout: self.layout.clone(),
            dead_after_ms: 1000,
            initial: None,
            server: String::new(),
        }))
    }

    async fn live(
        &self,
        _: Request<Streaming<Pulse>>,
    ) -> Result<Response<BoxStream<Pulse>>, Status> {
        match &self.refuses_life {
            Some(status) => Err(status.clone()),
            None => Ok(Response::new(Box::pin(tokio_stream::pending()))),
        }
    }

    async fn pull(
        &self,
        _: Request<proto::PullRequest>,
    ) -> Result<Response<BoxStream<PullPart>>, Status> {
        let parts = self.pull.clone().into_iter().map(Ok);
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }

    async fn push(
        &self,
        _: Request<Streaming<PushPart>>,
    ) -> Result<Response<proto::PushReply>, Status> {
        Ok(Response::new(proto::PushReply {}))
    }

    async fn leave(
        &self,
        _: Request<proto::LeaveRequest>,
    ) -> Result<Response<proto::LeaveReply>, Status> {
        Ok(Response::new(proto::LeaveReply {}))
    }
}

fn layout() -> Layout {
    let mut layout = Layout::new();
    layout.dense("weight", &[2, 3]);
    layout.rows("table", 4, 1);
    layout
}

fn tensors() -> Vec<proto::Tensor> {
    let tensor = |name: &str, shape: &[u64], rows| proto::Tensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        rows,
        ..proto::Tensor::default()
    };
    vec![
        tensor("weight", &[2, 3], false),
        tensor("table", &[4, 1], true),
    ]
}

/// What becomes of a worker that joins such a server and pulls once.
fn meets(mistaken: Mistaken) -> Result<(), LinkError> {
    meets_at(Routes::new(DsgdServer::new(mistaken)))
}

fn meets_at(routes: Routes) -> Result<(), LinkError> {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("door");
    let runtime = Runtime::new().unwrap();
    let listener = {
        let _context = runtime.enter();
        UnixListener::bind(&socket).unwrap()
    };
    runtime.spawn(async move {
        let server = Server::builder().add_routes(routes);
        server
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
    });
    let endpoint = Endpoint {
        address: format!("unix:{}", socket.display()),
        identity: None,
        token: Token::fresh(),
        host: "h1".to_owned(),
    };
    let client = runtime.block_on(Client::open(&endpoint))?;
    let pulled = thread::spawn(move || {
        let mut link = client.join_blocking("h1/0", &Arc::new(layout()))?;
        link.exchange(None).map(|_| ())
    });
    pulled.join().unwrap()
}

fn pulls(parts: Vec<pull_part::Part>) -> Result<(), LinkError> {
    let pull = parts.into_iter().map(|part| PullPart { part: Some(part) });
    meets(Mistaken {
        session: "s".to_owned(),
        layout: tensors(),
        pull: pull.collect(),
        ..Mistaken::default()
    })
}

fn given() -> pull_part::Part {
    let batch = proto::Validate { batch: 0 };
    pull_part::Part::Assignment(proto::Assignment {
        lease: 1,
        work: Some(proto::assignment::Work::Validate(batch)),
        ..proto::Assignment::default()
    })
}

fn chunk(tensor: u32, bytes: usize) -> pull_part::Part {
    let values = vec![0; bytes];
    pull_part::Part::Chunk(proto::Chunk {
        tensor,
        offset: 0,
        crc32: Some(crc32fast::hash(&values)),
        values: values.into(),
    })
}

/// All that was opened for the worker is closed in the event loop that joined, where nothing may wait.
#[test]
fn a_join_that_fails_half_way_is_reported_in_words() {
    let met = meets(Mistaken {
        session: "s".to_owned(),
        layout: tensors(),
        refuses_life: Some(Status::not_found("this session is void")),
        ..Mistaken::default()
    });
    assert_broken(met, "this session is void");
}

/// The conversation broke in these words; joining anew may help.
#[track_caller]
fn assert_broken(result: Result<(), LinkError>, words: &str) {
    match result {
        Err(error @ LinkError::Broken { .. }) => {
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.is_retryable());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_without_mistakes_is_worked_for() {
    pulls(vec![given(), chunk(0, 24), chunk(1, 16)]).unwrap();
    pulls(vec![pull_part::Part::Finished(proto::Finished {})]).unwrap();
}

#[test]
fn another_model_is_reported_by_its_first_difference() {
    let meets = |change: fn(&mut Vec<proto::Tensor>)| {
        let mut layout = tensors();
        change(&mut layout);
        let result = meets(Mistaken {
            session: "s".to_owned(),
            layout,
            ..Mistaken::default()
        });
        match result {
            Err(error @ LinkError::OtherModel { .. }) => {
                assert!(!error.is_retryable());
                error.to_string()
            }
            other => panic!("{other:?}"),
        }
    };
    let words = meets(|l| l[0].shape[1] = 4);
    assert!(
        words.contains("tensor weight [2, 3] here is weight [2, 4] there"),
        "{words}"
    );
    assert!(words.contains("the same options and data"), "{words}");
    let words = meets(|l| l[1].name = "other".to_owned());
    assert!(
        words.contains("table [4, 1] here is other [4, 1] there"),
        "{words}"
    );
    let words = meets(|l| l[1].rows = false);
    assert!(words.contains("table"), "{words}");
    let words = meets(|l| l.truncate(1));
    assert!(words.contains("2 tensors here, 1 there"), "{words}");
    let words = meets(|l| l.push(l[0].clone()));
    assert!(words.contains("2 tensors here, 3 there"), "{words}");
}

#[test]
fn a_server_that_refuses_is_not_asked_again() {
    let words = "worker on h2 is dsgd 0.1.0 (protocol 1), server 0.2.0 (protocol 1)";
    for status in [
        Status::failed_precondition(words),
        Status::unauthenticated(words),
        Status::permission_denied(words),
    ] {
        let refuses = Some(status);
        let result = meets(Mistaken {
            refuses,
            ..Mistaken::default()
        });
        match result {
            Err(error @ LinkError::Refused { .. }) => {
                assert!(error.to_string().contains(words), "{error}");
                assert!(!error.is_retryable());
            }
            other => panic!("{other:?}"),
        }
    }
    let refuses = Some(Status::unavailable("too busy"));
    let result = meets(Mistaken {
        refuses,
        ..Mistaken::default()
    });
    assert_broken(result, "too busy");
}

#[test]
fn a_pull_is_one_thing_from_beginning_to_end() {
    assert_broken(pulls(vec![]), "neither work nor a word");
    assert_broken(pulls(vec![chunk(0, 24)]), "neither work nor a word");
    let nothing = proto::Assignment {
        lease: 1,
        work: None,
        ..proto::Assignment::default()
    };
    let nothing = pull_part::Part::Assignment(nothing);
    assert_broken(pulls(vec![nothing]), "an assignment without work");
    let wait = pull_part::Part::Wait(proto::Wait {});
    let words = "something else than parameters";
    assert_broken(pulls(vec![given(), wait]), words);
    assert_broken(pulls(vec![given(), chunk(0, 24), given()]), words);
    // It has said to have no version yet.
    let new = pull_part::Part::Assignment(proto::Assignment {
        lease: 1,
        work: Some(proto::assignment::Work::Validate(proto::Validate::default())),
        base: Some(4),
        ..proto::Assignment::default()
    });
    assert_broken(pulls(vec![new]), "what is new to another version");
    let coded = pull_part::Part::Assignment(proto::Assignment {
        lease: 1,
        work: Some(proto::assignment::Work::Validate(proto::Validate::default())),
        codec: 9,
        ..proto::Assignment::default()
    });
    assert_broken(pulls(vec![coded]), "a codec that is unknown here");
    let empty = Mistaken {
        session: "s".to_owned(),
        layout: tensors(),
        pull: vec![PullPart { part: None }],
        ..Mistaken::default()
    };
    assert_broken(meets(empty), "an empty part");
}

/// Answers that no gRPC server gives, but a proxy might.
#[test]
fn an_answer_says_how_it_ended() {
    let pulls = |answer: (StatusCode, &'static str)| {
        let mut routes = Routes::new(DsgdServer::new(Mistaken {
            session: "s".to_owned(),
            layout: tensors(),
            ..Mistaken::default()
        }));
        let pull = Router::new().route("/dsgd.v1.Dsgd/Pull", post(move || async move { answer }));
        let router = std::mem::take(routes.axum_router_mut());
        *routes.axum_router_mut() = router.merge(pull);
        meets_at(routes)
    };
    assert_broken(pulls((StatusCode::OK, "")), "ended without a status");
    assert_broken(pulls((StatusCode::BAD_GATEWAY, "busy")), "502 Bad Gateway");
}

#[test]
fn parameters_that_are_wrong_are_not_computed_from() {
    let words = "ended before tensor table, element 0";
    assert_broken(pulls(vec![given(), chunk(0, 24)]), words);
    let words = "tensor 1 at byte 0 came where tensor 0 at byte 0 was due";
    assert_broken(pulls(vec![given(), chunk(1, 16)]), words);
    let damaged = |mut part| {
        if let pull_part::Part::Chunk(chunk) = &mut part {
            chunk.crc32 = chunk.crc32.map(|crc| crc ^ 1);
        }
        part
    };
    let words = "tensor weight was damaged on the way";
    assert_broken(pulls(vec![given(), damaged(chunk(0, 24))]), words);
    // Less than gRPC allows without being told.
    let words = "message length too large";
    assert_broken(pulls(vec![given(), chunk(0, 2 * CHUNK)]), words);
}

#[test]
fn a_reply_to_join_has_its_limits() {
    let join = |session: &str, names: usize| {
        let name = "n".repeat(1000);
        let tensor = proto::Tensor {
            name,
            ..proto::Tensor::default()
        };
        meets(Mistaken {
            session: session.to_owned(),
            layout: vec![tensor; names],
            ..Mistaken::default()
        })
    };
    // More than gRPC allows without being told, for large models' sake.
    assert!(matches!(join("s", 6000), Err(LinkError::OtherModel { .. })));
    assert_broken(join("s", MOST_LAYOUT / 1000), "message length too large");
    let bad = meets(Mistaken {
        session: "a\nb".to_owned(),
        layout: tensors(),
        ..Mistaken::default()
    });
    assert_broken(bad, "a session that is none");
}

#[test]
fn nobody_there_is_reported_with_the_address() {
    let endpoint = Endpoint {
        address: "unix:/nowhere/door".to_owned(),
        identity: None,
        token: Token::fresh(),
        host: "h1".to_owned(),
    };
    let runtime = Runtime::new().unwrap();
    match runtime.block_on(Client::open(&endpoint)).err() {
        Some(error @ LinkError::Unreachable { .. }) => {
            assert!(error.to_string().contains("/nowhere/door"), "{error}");
            assert!(error.is_retryable());
        }
        other => panic!("{other:?}"),
    }
}
