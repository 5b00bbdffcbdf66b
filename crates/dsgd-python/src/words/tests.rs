//! What is made of answers, right and wrong.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::manifest::manifest;

#[test]
fn an_answer_is_what_was_asked_for_or_a_failure() {
    let text = r#"{"failed":{"error":"ValueError: x","where":"a.py:3 in loss","traceback":"…"}}"#;
    let Answer::<Done>::Failed { failed } = serde_json::from_str(text).unwrap() else {
        panic!("it says that it failed");
    };
    assert_eq!(failed.words(), "ValueError: x (a.py:3 in loss)");
    let well: Answer<Done> = serde_json::from_str(r#"{"new":1}"#).unwrap();
    assert!(matches!(well, Answer::Well(Done {})));
}

#[test]
fn means_become_sums_and_what_is_not_finite_stays_so() {
    let text = r#"{"loss":0.5,"count":20,"metrics":{"accuracy":0.25},"rows":{"emb":3}}"#;
    let mut computed: Computed = serde_json::from_str(text).unwrap();
    let names = ["f1", "accuracy"].map(str::to_owned);
    let stats = computed.stats(4, &names).unwrap();
    assert_eq!((stats.loss, stats.count, stats.examples), (10.0, 20, 4));
    assert_eq!(stats.sums[..2], [0.0, 5.0]);
    assert!(computed.stats(4, &names[..1]).is_err());
    computed.loss = None;
    assert!(computed.stats(4, &names).unwrap().loss.is_nan());
}

/// Answers with bytes changed, left out and doubled: what is made of them is something or an error.
#[test]
fn no_answer_is_a_panic_and_memory_is_bounded() {
    let loaded = r#"{"task":"T","python":"3.11","executable":"p","frameworks":{"torch":"2"},"tensors":[{"name":"a","shape":[3,2],"rows":true},{"name":"b","shape":[],"added":true},{"name":"c","shape":[2],"rate":0.5,"decay":false}],"examples":9,"validation_examples":4,"lengths":[1,1,2,2,2,3,3,3,1],"batch_size":2,"higher":["f1"],"best":"f1"}"#;
    let computed = r#"{"loss":0.5,"count":20,"metrics":{"f1":0.25},"rows":{"a":3}}"#;
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let (mut made, mut refused) = (0, 0);
    for round in 0..40_000 {
        let mut line = if round % 2 == 0 { loaded } else { computed }
            .as_bytes()
            .to_vec();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..line.len());
            match random.random_range(0..4) {
                0 => line[at] = random.random(),
                1 => line[at] = b"0123456789-e.,:[]{}"[random.random_range(0..19)],
                2 => drop(line.remove(at)),
                _ => line.insert(at, line[at]),
            }
        }
        let well = if round % 2 == 0 {
            match serde_json::from_slice(&line) {
                Ok(Answer::Well(loaded)) => {
                    let loaded: Loaded = loaded;
                    let dealings = loaded.dealings();
                    loaded.layout().is_ok_and(|layout| {
                        let metrics = &["f1".to_owned()];
                        dealings.is_ok_and(|d| {
                            manifest(&loaded, &Arc::new(layout), &d, metrics).is_ok()
                        })
                    })
                }
                _ => false,
            }
        } else {
            match serde_json::from_slice(&line) {
                Ok(Answer::Well(computed)) => {
                    let computed: Computed = computed;
                    computed.stats(5, &["f1".to_owned()]).is_ok()
                }
                _ => false,
            }
        };
        if well {
            made += 1;
        } else {
            refused += 1;
        }
    }
    assert!(made > 1_000 && refused > 1_000, "{made} {refused}");
}

#[test]
fn tensors_that_make_no_layout_are_refused() {
    let tensor = |name: &str, shape: &[usize], rows| TensorOf {
        name: name.to_owned(),
        shape: shape.to_vec(),
        rows,
        added: false,
        rate: None,
        decay: None,
    };
    let layout = |tensors: Vec<TensorOf>| {
        let text = r#"{"task":"T","python":"3","executable":"p","tensors":[],"examples":1,"batch_size":1}"#;
        let mut loaded: Loaded = serde_json::from_str(text).unwrap();
        loaded.tensors = tensors;
        loaded.layout().map_err(|error| error.to_string())
    };
    let two = layout(vec![
        tensor("t", &[7, 2], true),
        tensor("scalar", &[], false),
    ])
    .unwrap();
    assert_eq!(two.len(), 15);
    for (wrong, why) in [
        (
            vec![tensor("a", &[1], false), tensor("a", &[2], false)],
            "twice",
        ),
        (vec![tensor("a", &[1], true)], "no table"),
        (vec![tensor("a", &[1 << 33, 1], true)], "at most"),
    ] {
        let error = layout(wrong).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
