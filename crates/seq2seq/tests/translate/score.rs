//! The validation set, translated.

use seq2seq::beam::{Beam, search};
use seq2seq::bleu::{Matches, Smoothing};
use seq2seq::data::numbers::{self, NumbersOptions};
use seq2seq::data::{Corpus, Dataset, Sentences, Sizes};
use seq2seq::kernels::Compute;
use seq2seq::model::{LayerType, ModelSpec, ModelType, Workspace};
use seq2seq::score::{MAX_LENGTH, score_validation};

use crate::{PAIRS, random, taught, vocabularies};

fn workspace(threads: usize) -> Workspace {
    Workspace::new(Compute {
        threads,
        ..Compute::default()
    })
    .unwrap()
}

#[test]
fn what_was_learnt_scores_a_hundred_and_a_wrong_word_less() {
    let (model, params) = taught(ModelType::Red);
    let (source, target) = vocabularies();
    let corpus = |last: &'static str| {
        let mut sentences = Sentences::new();
        for (number, (from, to)) in PAIRS.iter().enumerate() {
            let to = if number == 3 { last } else { to };
            sentences.push(
                &source.encode(from.split(' ')),
                &target.encode(to.split(' ')),
            );
        }
        let sizes = Sizes {
            source: 9,
            target: 8,
        };
        let data = Dataset::new(&sentences, 3, sizes);
        Corpus {
            train: data.clone(),
            valid: Some(data),
            source_vocab: None,
            target_vocab: None,
            sizes,
            left_out: Vec::new(),
        }
    };
    for threads in [1, 2, 5] {
        let score = |last| {
            let corpus = corpus(last);
            let scored = score_validation(&model, &params, &corpus, &mut workspace(threads), 5, 2);
            scored.unwrap().unwrap()
        };
        let all = score("ein Auto");
        assert_eq!((all.exact, all.sentences, all.exact_share()), (4, 4, 1.0));
        assert!((all.bleu.score - 100.0).abs() < 1e-9, "{}", all.bleu.score);
        // Seven of eight words and three of four pairs are right.
        let most = score("ein Haus");
        assert_eq!((most.exact, most.exact_share()), (3, 0.75));
        let bleu = 100.0 * (7.0_f64 / 8.0 * 3.0 / 4.0).sqrt();
        assert!((most.bleu.score - bleu).abs() < 1e-9, "{}", most.bleu.score);
    }
    let nothing = Corpus {
        valid: None,
        ..corpus("ein Auto")
    };
    let scored = score_validation(&model, &params, &nothing, &mut workspace(1), 5, 4);
    assert_eq!(scored.unwrap(), None);
}

#[test]
fn all_at_once_is_the_same_as_one_by_one() {
    let options = NumbersOptions {
        train: 10,
        valid: 60,
        ..NumbersOptions::default()
    };
    let corpus = numbers::load(&options).unwrap();
    let spec = ModelSpec {
        layer_type: LayerType::Gru,
        model_type: ModelType::Red,
        layers: 1,
        word_vec_size: 6,
        hidden_size: 16,
        source_size: corpus.sizes.source as usize,
        target_size: corpus.sizes.target as usize,
        utter_context: 1,
        dropout: 0.0,
    };
    let (model, params) = random(spec, 3, 1.5);
    let got = score_validation(&model, &params, &corpus, &mut workspace(2), 3, 4);
    let mut matches = Matches::new(4);
    let beam = Beam {
        k: 3,
        max_len: MAX_LENGTH,
    };
    for (source, target) in corpus.valid.unwrap().sentences().iter() {
        let source = [source.to_vec()];
        let found = search(&model, &params, &source, 1, beam, &mut workspace(1)).unwrap();
        let best = found[0].finished.first();
        let best = best.or(found[0].unfinished.as_ref()).unwrap();
        let words = |row: &[u32]| {
            row.iter()
                .copied()
                .filter(|&w| w != 3 && w != 4 && w != 1)
                .collect::<Vec<_>>()
        };
        matches.add(&words(&best.tokens), &words(target));
    }
    let (got, want) = (got.unwrap().unwrap().bleu, matches.score(Smoothing::Exp));
    assert_eq!(got.totals, want.totals);
    assert_eq!(got, want);
}
