//! A step of a shape that was seen before allocates nothing of note.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dsgd::{Gradient, Params};
use seq2seq::kernels::{Compute, Precision, Simd};
use seq2seq::model::bench::random_batch;
use seq2seq::model::{LayerType, Model, ModelSpec, ModelType, Workspace};

/// Counts the bytes that are asked for.
struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_second_step_reuses_every_buffer() {
    for precision in [Precision::F32, Precision::Bf16] {
        for (layer_type, threads) in [
            (LayerType::Lstm, 1),
            (LayerType::Gru, 2),
            (LayerType::Bi, 1),
        ] {
            let model = Model::new(ModelSpec {
                layer_type,
                model_type: ModelType::Hred,
                layers: 2,
                word_vec_size: 60,
                hidden_size: 70,
                source_size: 500,
                target_size: 700,
                utter_context: 2,
                dropout: 0.3,
            })
            .unwrap();
            let mut params = Params::zeros(Arc::new(model.layout()));
            model.init(1, 0.1, &mut params);
            let mut gradient = Gradient::new(params.layout().clone());
            let mut workspace = Workspace::new(Compute {
                threads,
                simd: Simd::Auto,
                precision,
            })
            .unwrap();
            let mut bytes = Vec::new();
            for (rows, len) in [(64, 20), (64, 20), (30, 20), (64, 11)] {
                gradient.clear();
                let batch = random_batch(model.spec(), rows, len, len, 2);
                let before = BYTES.load(Ordering::Relaxed);
                model
                    .gradient(&params, &batch, 1, &mut workspace, &mut gradient)
                    .unwrap();
                bytes.push(BYTES.load(Ordering::Relaxed) - before);
            }
            assert!(bytes[0] > 1_000_000, "{bytes:?}");
            assert!(
                bytes[1..].iter().all(|&b| b < 32_000),
                "{layer_type:?}: {bytes:?}"
            );
        }
    }
}
