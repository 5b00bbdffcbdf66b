//! A worker that says nothing is lost by name; it comes back as another, and what it had is not its own.

use dsgd_core::event::Event;
use dsgd_engine::wire::proto::pull_part::Part;
use dsgd_engine::wire::proto::{self, push_part};
use tokio::runtime::Runtime;
use tonic::Code;

use crate::wire::listening::{Listening, client};
use crate::wire::{Caller, assert_refused, head, join_request, nonce};

async fn join(run: &Listening) -> Caller {
    let endpoint = &run.invitation.endpoint;
    let mut client = client(endpoint).await;
    let nonce = nonce(&mut client).await;
    let reply = client
        .join(join_request(&endpoint.token, &nonce, "h1/0"))
        .await;
    let reply = reply.unwrap().into_inner();
    Caller {
        client,
        worker: reply.worker,
        session: reply.session,
    }
}

/// The line's gradient, as it travels.
fn chunk() -> push_part::Part {
    let values = [0; 8];
    push_part::Part::Chunk(proto::Chunk {
        tensor: 0,
        offset: 0,
        values: values.to_vec().into(),
        crc32: Some(crc32fast::hash(&values)),
    })
}

fn assignment(parts: &[Part]) -> (u64, u64) {
    match parts {
        [Part::Assignment(given), ..] => match &given.work {
            Some(proto::assignment::Work::Train(train)) => (given.lease, train.batches[0]),
            _ => panic!("no training batch"),
        },
        _ => panic!("no work: {parts:?}"),
    }
}

#[test]
fn silence_is_declared_lost_and_a_stale_lease_is_refused() {
    let args = "-n 0 --epochs 1 --dead-after 1";
    let run = Listening::start("linear", args, "");
    let runtime = Runtime::new().unwrap();
    let mut worker = runtime.block_on(join(&run));
    let number = worker.worker;
    let (lease, batch) = runtime.block_on(async {
        // One sign of life, and no more.
        let pulses = worker.live().await.unwrap();
        let given = assignment(&worker.pull(5000).await.unwrap());
        // The stream stays open: that it ends is another way to go.
        std::mem::forget(pulses);
        given
    });
    let (name, reason) = run.wait_for("the worker's loss", |event| match event {
        Event::WorkerLost {
            worker,
            name,
            reason,
        } if *worker == number => Some((name.clone(), reason.clone())),
        _ => None,
    });
    assert_eq!(name, "h1/0");
    assert!(reason.contains("not heard of for 1 s"), "{reason}");
    run.wait_for("the batch's return", |event| match event {
        Event::BatchFreed {
            batch: freed,
            reason,
        } if *freed == batch as usize => {
            assert!(reason.contains("h1/0 is lost"), "{reason}");
            Some(())
        }
        _ => None,
    });
    // It wakes up and pushes what it has: that is nobody's any more.
    let pushed = runtime.block_on(worker.push(vec![head(lease), chunk()]));
    match pushed {
        Ok(()) => run.wait_for("a refusal", |event| match event {
            Event::Refused { worker, .. } if *worker == number => Some(()),
            _ => None,
        }),
        refused => assert_refused(refused, Code::NotFound, "join anew"),
    }
    let gone = runtime.block_on(worker.pull(1));
    assert_refused(gone, Code::NotFound, "join anew");
    // It comes back under a new number, and gets its batch again under a new lease.
    let mut again = runtime.block_on(join(&run));
    assert!(again.worker > number);
    runtime.block_on(async {
        let _pulses = again.live().await.unwrap();
        let (new_lease, same_batch) = assignment(&again.pull(5000).await.unwrap());
        assert!(new_lease > lease && same_batch == batch);
        let stale = again.push(vec![head(lease), chunk()]).await;
        assert_refused(
            stale,
            Code::InvalidArgument,
            &format!("has lease {new_lease}"),
        );
        again.push(vec![head(new_lease), chunk()]).await.unwrap();
    });
    let step = run.wait_for("a step", |event| match event {
        Event::Step(step) => Some(step.clone()),
        _ => None,
    });
    assert_eq!(crate::runs::workers_of(&step), [again.worker]);
    assert_eq!(crate::runs::batches_of(&step), [batch as usize]);
}
