//! The gradient of one small batch, for each layer type; `examples/step.rs` times a large one.

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use dsgd::{Gradient, Params};
use seq2seq::kernels::Compute;
use seq2seq::model::bench::random_batch;
use seq2seq::model::{LayerType, Model, ModelSpec, ModelType, Workspace};

fn gradients(criterion: &mut Criterion) {
    let types = [
        LayerType::Lstm,
        LayerType::Fast,
        LayerType::Gru,
        LayerType::Rnn,
        LayerType::Bi,
    ];
    for layer_type in types {
        let model = Model::new(ModelSpec {
            layer_type,
            model_type: ModelType::Red,
            layers: 2,
            word_vec_size: 100,
            hidden_size: 100,
            source_size: 2_000,
            target_size: 4_000,
            utter_context: 2,
            dropout: 0.3,
        })
        .expect("a valid shape");
        let mut params = Params::zeros(Arc::new(model.layout()));
        model.init(1, 0.1, &mut params);
        let mut gradient = Gradient::new(params.layout().clone());
        let mut workspace = Workspace::new(Compute::default()).expect("some instruction set");
        let batch = random_batch(model.spec(), 64, 10, 10, 2);
        criterion.bench_function(&format!("gradient of {layer_type:?}"), |bencher| {
            bencher.iter(|| {
                gradient.clear();
                model.gradient(&params, &batch, 1, &mut workspace, &mut gradient)
            });
        });
    }
}

criterion_group!(benches, gradients);
criterion_main!(benches);
