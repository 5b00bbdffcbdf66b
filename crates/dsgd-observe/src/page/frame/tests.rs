use serde_json::Value;

use super::*;
use dsgd_core::event::{Contribution, Event, Record, Step};
use dsgd_core::metric::Units;

fn see(view: &mut View, event: Event) {
    let at_secs = 1.0;
    view.board.see(&Record { at_secs, event });
}

fn started(resumed_at: Option<u64>) -> Event {
    Event::RunStarted {
        unix_secs: 0.0,
        task: "words".to_owned(),
        parameters: 1,
        workers: 2,
        mode: Mode::Async,
        epochs: 1,
        about: Vec::new(),
        metrics: vec![Metric::accuracy()],
        units: Units::default(),
        resumed_at,
    }
}

fn joined(worker: u32) -> Event {
    let name = format!("local/{worker}");
    Event::WorkerJoined { worker, name }
}

fn step(version: u64, worker: u32) -> Event {
    Event::Step(Step {
        version,
        batches: 10,
        parts: vec![Contribution {
            worker,
            batches: vec![1, 2],
            ..Contribution::default()
        }],
        ..Step::default()
    })
}

fn next(cursor: &mut Cursor, view: &View) -> Value {
    serde_json::from_str(&cursor.next(view)).unwrap()
}

fn len(value: &Value) -> usize {
    value.as_array().unwrap().len()
}

#[test]
fn a_reader_gets_all_and_then_what_is_new() {
    let (mut view, mut cursor) = (View::default(), Cursor::default());
    see(&mut view, started(None));
    see(&mut view, joined(0));
    see(&mut view, joined(1));
    (1..=5).for_each(|version| see(&mut view, step(version, 0)));
    let frame = next(&mut cursor, &view);
    assert_eq!(frame["whole"], true);
    assert_eq!(len(&frame["workers"]["name"]), 2);
    assert_eq!(len(&frame["series"]["step"]), 5);
    assert_eq!(len(&frame["moments"]["step"]), 5);
    assert_eq!(len(&frame["happenings"]), 2);

    see(&mut view, step(6, 1));
    let frame = next(&mut cursor, &view);
    assert_eq!(frame["whole"], false);
    assert_eq!(frame["workers"]["name"], serde_json::json!(["local/1"]));
    assert_eq!(frame["series"]["from"], 4);
    assert_eq!(frame["series"]["step"], serde_json::json!([5, 6]));
    assert_eq!(frame["moments"]["step"], serde_json::json!([6]));
    assert_eq!(len(&frame["happenings"]), 0);
}

#[test]
fn what_a_new_life_undoes_the_reader_forgets() {
    let (mut view, mut cursor) = (View::default(), Cursor::default());
    see(&mut view, started(None));
    (1..=5).for_each(|version| see(&mut view, step(version, 0)));
    next(&mut cursor, &view);
    see(&mut view, started(Some(3)));
    see(&mut view, step(4, 0));
    let frame = next(&mut cursor, &view);
    assert_eq!(frame["whole"], true);
    assert_eq!(frame["series"]["step"], serde_json::json!([1, 2, 3, 4]));
}

#[test]
fn who_comes_back_late_gets_the_latest_of_bounded_size() {
    let (mut view, mut cursor) = (View::default(), Cursor::default());
    see(&mut view, started(None));
    see(&mut view, joined(0));
    next(&mut cursor, &view);
    (1..=100_000).for_each(|version| see(&mut view, step(version, 0)));
    let frame = next(&mut cursor, &view);
    assert!(len(&frame["series"]["step"]) <= 1024);
    assert!(len(&frame["moments"]["step"]) <= 400);
    assert_eq!(frame["head"]["steps"], 100_000);
    assert!(frame.to_string().len() < 300_000);
}
