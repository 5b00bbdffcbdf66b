//! Gradients' memory, which workers and the server hand to and fro.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::mutex::lock;
use dsgd_core::params::{Gradient, Layout};

/// Gradients that nobody uses for now: made once, taken and given back for ever.
///
/// Whoever computes or receives a gradient takes one and the server gives it back after the
/// step. They meet here and nowhere else, for as long as it takes to move a pointer: hence a lock.
#[derive(Clone)]
pub struct Buffers {
    layout: Arc<Layout>,
    // They go to workers and back as they are: a box is what is sent.
    #[allow(clippy::vec_box)]
    free: Arc<Mutex<Vec<Box<Gradient>>>>,
}

impl Buffers {
    /// So many of them; the system gives them memory only when they are first used.
    pub fn new(layout: &Arc<Layout>, count: usize) -> Self {
        let free = (0..count).map(|_| Box::new(Gradient::new(Arc::clone(layout))));
        Self {
            layout: Arc::clone(layout),
            free: Arc::new(Mutex::new(free.collect())),
        }
    }

    /// The one that was used last, or a fresh one when all are in use.
    pub fn take(&self) -> Box<Gradient> {
        let free = self.lock().pop();
        free.unwrap_or_else(|| Box::new(Gradient::new(Arc::clone(&self.layout))))
    }

    /// Gives one back.
    pub fn give(&self, gradient: Box<Gradient>) {
        self.lock().push(gradient);
    }

    #[allow(clippy::vec_box)]
    fn lock(&self) -> MutexGuard<'_, Vec<Box<Gradient>>> {
        // Nothing can go wrong half-way through a push or a pop.
        lock(&self.free)
    }
}
