//! Once a run is under way it makes no buffer of the parameters' size: not for a step, nor for a
//! pull or a push, validation or a checkpoint. A binary of its own, since it counts for the
//! whole process.
#![allow(unsafe_code)] // An allocator cannot be written otherwise.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

use dsgd::{
    Batch, Compute, Gradient, Manifest, Model, NoOptions, Params, Seat, Snapshot, Stats, Task,
};
use dsgd::{TaskResult, TensorId};

const PARAMETERS: usize = 1_000_000;
const WORKERS: usize = 3;
const BATCHES: usize = 20;
/// Half the bytes of the parameters.
const LARGE: usize = PARAMETERS * size_of::<f32>() / 2;

/// Counts large allocations while it is told to.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static LARGE_ONES: AtomicUsize = AtomicUsize::new(0);
static ALL_EVER: AtomicUsize = AtomicUsize::new(0);
static GRADIENTS: AtomicU64 = AtomicU64::new(0);

fn count(bytes: usize) {
    if bytes >= LARGE {
        ALL_EVER.fetch_add(1, SeqCst);
        LARGE_ONES.fetch_add(usize::from(COUNTS.load(SeqCst)), SeqCst);
    }
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Parameters that are pulled towards 1, with much memory and little work.
struct Heavy(Manifest);

impl Model for Heavy {
    fn manifest(&self) -> &Manifest {
        &self.0
    }

    fn init(&self, _seed: u64, params: &mut Params) -> TaskResult<()> {
        params.flat_mut().fill(0.5);
        Ok(())
    }

    fn compute(&self, _seat: Seat) -> TaskResult<Box<dyn Compute + '_>> {
        Ok(Box::new(self))
    }
}

impl Compute for &Heavy {
    fn gradient(
        &mut self,
        batch: Batch,
        params: &Snapshot,
        gradient: &mut Gradient,
    ) -> TaskResult<Stats> {
        // By now every worker has had its first batch, or is about to: the server is set up.
        if GRADIENTS.fetch_add(1, SeqCst) == WORKERS as u64 {
            COUNTS.store(true, SeqCst);
        }
        let (values, slopes) = (params.get(TensorId(0)), gradient.dense(TensorId(0)));
        for (slope, value) in slopes.iter_mut().zip(values) {
            *slope += 2.0 * (value - 1.0);
        }
        // Some batches are slow, so that versions are read while others are made.
        if batch.index.is_multiple_of(3) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Ok(Stats::of_examples(1.0, 1))
    }

    fn evaluate(&mut self, _: usize, params: &Snapshot) -> TaskResult<Stats> {
        let distance: f32 = params
            .get(TensorId(0))
            .iter()
            .map(|v| (v - 1.0).abs())
            .sum();
        Ok(Stats::of_examples(
            f64::from(distance) / PARAMETERS as f64,
            1,
        ))
    }
}

impl Task for Heavy {
    type Options = NoOptions;

    fn load(_: &NoOptions, _seed: u64) -> TaskResult<Self> {
        let layout: dsgd::Layout = [("weight", [PARAMETERS])].into_iter().collect();
        Ok(Self(Manifest {
            validation_batches: 2 * WORKERS,
            most_parts: WORKERS,
            ..Manifest::new(layout, BATCHES)
        }))
    }
}

#[test]
fn nothing_of_the_parameters_size_is_allocated_on_the_way() {
    for (mode, parts) in [("async", 1), ("sync", 1), ("split", WORKERS)] {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = folder.path().join("run").display().to_string();
        let args = format!(
            "heavy train --quiet --run-dir {run_dir} -n {WORKERS} --mode {mode} --epochs 4 --keep 1"
        );
        GRADIENTS.store(0, SeqCst);
        let before = ALL_EVER.load(SeqCst);
        let tasks = dsgd::Tasks::new().with::<Heavy>("heavy");
        tasks.run(args.split(' ').map(Into::into)).unwrap();
        COUNTS.store(false, SeqCst);
        assert_eq!(GRADIENTS.load(SeqCst), (4 * BATCHES * parts) as u64);
        // Parameters, optimizer, a gradient and a version for each worker: they were seen.
        let at_start = ALL_EVER.load(SeqCst) - before;
        assert!(at_start >= 2 + 2 * WORKERS, "{mode}: {at_start}");
        assert_eq!(LARGE_ONES.load(SeqCst), 0, "{mode}");
    }
}
