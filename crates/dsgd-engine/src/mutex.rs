//! Locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks what is whole at any time: whoever panicked while holding it has left nothing half done.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
