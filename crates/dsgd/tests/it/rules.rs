//! Tensors with rules of their own.

use std::sync::Arc;

use dsgd::optim::{Hyper, OptimizerKind, StepSize};
use dsgd::{Gradient, Layout, Params, Rule, TensorId};
use dsgd_engine::store::Updater;

#[test]
fn a_tensor_may_have_a_rule_of_its_own() {
    let mut layout: Layout = [("usual", [1]), ("slow", [1]), ("free", [1]), ("seen", [1])]
        .into_iter()
        .collect();
    let trained = |rate, decays| Rule::Trained { rate, decays };
    layout.set_rule(TensorId(1), trained(0.5, true));
    layout.set_rule(TensorId(2), trained(1.0, false));
    layout.set_rule(TensorId(3), Rule::Added);
    let layout = Arc::new(layout);
    let mut gradient = Gradient::new(Arc::clone(&layout));
    let decaying = Hyper {
        weight_decay: 0.5,
        ..Hyper::default()
    };
    let size = StepSize {
        learning_rate: 0.25,
        scale: 0.5,
    };
    let mut step = |mut updater: Updater, size| {
        let mut params = Params::zeros(Arc::clone(&layout));
        params.flat_mut().fill(8.0);
        for at in 0..4 {
            gradient.dense(TensorId(at))[0] = 4.0;
        }
        updater.in_place(&mut params, &gradient, size);
        params.flat().to_vec()
    };
    // p - rate · 0.25 · (0.5 · 4 + 0.5 · 8), the last term where it decays; 8 + 4 where it is added.
    let sgd = Updater::new(OptimizerKind::Sgd, decaying, Arc::clone(&layout));
    assert_eq!(step(sgd, size), [6.5, 7.25, 7.5, 12.0]);
    // Deltas of parameters have followed these rules already.
    let outer = StepSize {
        learning_rate: 0.25,
        scale: -1.0,
    };
    assert_eq!(
        step(Updater::of_deltas(Arc::clone(&layout)), outer),
        [9.0; 4]
    );
}
