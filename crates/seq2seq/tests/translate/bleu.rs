//! BLEU against sacrebleu's, pair by pair and of whole corpora.

use seq2seq::bleu::{Score, Smoothing, corpus, sentence};
use serde_json::Value;

use crate::fixtures;

fn words(pair: &Value, side: &str) -> Vec<String> {
    let text = pair[side].as_str().unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}

fn compare(at: &str, got: &Score, want: &Value) {
    let close = |name: &str, got: f64, want: &Value| {
        let want = want.as_f64().unwrap();
        assert!(
            (got - want).abs() <= 1e-6,
            "{at}, {name}: {got}, wanted {want}"
        );
    };
    close("score", got.score, &want["score"]);
    close(
        "brevity penalty",
        got.brevity_penalty,
        &want["brevity_penalty"],
    );
    close(
        "words",
        got.hypothesis_length as f64,
        &want["hypothesis_length"],
    );
    close(
        "reference",
        got.reference_length as f64,
        &want["reference_length"],
    );
    for (name, got) in [
        ("precisions", &got.precisions),
        ("counts", &got.counts),
        ("totals", &got.totals),
    ] {
        let want = want[name].as_array().unwrap();
        assert_eq!(got.len(), want.len(), "{at}, {name}");
        for (got, want) in got.iter().zip(want) {
            close(name, *got, want);
        }
    }
}

fn cases(test: &str) -> Option<Value> {
    let file = fixtures(test)?.join("bleu.json");
    let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn fixtures_sentence_scores() {
    let Some(cases) = cases("fixtures_sentence_scores") else {
        return;
    };
    let pairs = cases["pairs"].as_array().unwrap();
    assert!(!pairs.is_empty());
    for (number, pair) in pairs.iter().enumerate() {
        let (hypothesis, reference) = (words(pair, "hypothesis"), words(pair, "reference"));
        let got = sentence(&hypothesis, &reference, 4, Smoothing::Exp);
        compare(&format!("pair {number}"), &got, &pair["sentence_exp"]);
    }
}

#[test]
fn fixtures_corpus_scores() {
    let Some(cases) = cases("fixtures_corpus_scores") else {
        return;
    };
    let value = |name: &str| cases["smooth_value"][name].as_f64().unwrap();
    for (pairs, scores) in [("pairs", "corpus"), ("hard_pairs", "hard_corpus")] {
        let pairs: Vec<_> = cases[pairs]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (words(pair, "hypothesis"), words(pair, "reference")))
            .collect();
        let scores_of = cases[scores].as_object().unwrap();
        assert!(!scores_of.is_empty());
        for (name, want) in scores_of {
            let smoothing = match &**name {
                "none" => Smoothing::None,
                "exp" => Smoothing::Exp,
                "floor" => Smoothing::Floor(value("floor")),
                "add-k" => Smoothing::AddK(value("add-k")),
                other => panic!("no smoothing {other}"),
            };
            let pairs = pairs.iter().map(|(h, r)| (h.as_slice(), r.as_slice()));
            let got = corpus(pairs, 4, smoothing);
            compare(&format!("{scores} {name}"), &got, want);
        }
    }
}
