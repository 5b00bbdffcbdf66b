//! The demo's batches can be cut: workers share them.

use clap::Parser;
use dsgd::testing::parts_agree;
use dsgd::{Model, Task};
use seq2seq::Seq2Seq;

#[derive(Parser)]
struct Typed {
    #[command(flatten)]
    options: <Seq2Seq as Task>::Options,
}

#[test]
fn a_batch_is_the_sum_of_its_parts() {
    for model in ["", "--layer-type lstm --num-layers 2", "--layer-type gru"] {
        let args =
            format!("task --numbers 400 --hidden-size 16 --word-vec-size 8 --dropout 0.3 {model}");
        let typed = Typed::parse_from(args.split_whitespace());
        let task = Seq2Seq::load(&typed.options, 1).unwrap();
        assert_eq!(
            task.manifest().most_parts,
            4,
            "64 sentences in groups of 16"
        );
        parts_agree(&task).unwrap();
    }
}
