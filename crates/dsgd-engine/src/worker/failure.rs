//! Why a task's code could not compute something.

use std::panic::{AssertUnwindSafe, catch_unwind};

use dsgd_core::task::{Lost, TaskResult};
use dsgd_core::text::causes;

/// Why a task's code could not compute something.
pub(super) struct Failure {
    pub(super) reason: String,
    /// Whether the worker can compute nothing any more: the code panicked, or has lost what it computes with.
    pub(super) is_end: bool,
}

/// Runs the task's code; a panic becomes an error with its message.
pub(super) fn catch_panics<R>(code: impl FnOnce() -> TaskResult<R>) -> Result<R, Failure> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => Err(Failure {
            reason: causes(&*error),
            is_end: error.is::<Lost>(),
        }),
        Err(payload) => {
            let text = payload.downcast_ref::<&str>().map(ToString::to_string);
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            let text = text.unwrap_or_else(|| "no message".to_owned());
            Err(Failure {
                reason: format!("panicked: {text}"),
                is_end: true,
            })
        }
    }
}
