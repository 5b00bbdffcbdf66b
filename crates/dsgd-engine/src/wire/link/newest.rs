//! The newest parameters of a compute slot: of two workers that share it, or one after the other.

use std::sync::{Arc, Mutex};

use crate::mutex::lock;
use dsgd_core::params::Params;

/// The newest parameters that one of a slot's workers has pulled: what is new to these need not be sent to both, nor
/// everything to one that joins anew.
#[derive(Clone, Default)]
pub struct Newest(Arc<Mutex<Option<Held>>>);

/// A version of the parameters.
#[derive(Clone)]
pub(super) struct Held {
    /// The server's life in which it is that version.
    pub(super) server: String,
    pub(super) version: u64,
    pub(super) params: Arc<Params>,
}

impl Held {
    /// Begins with this in place of what is there.
    pub(super) fn replace(self, params: &mut Arc<Params>) {
        match Arc::get_mut(params) {
            Some(own) => own.flat_mut().copy_from_slice(self.params.flat()),
            None => *params = self.params,
        }
    }
}

impl Newest {
    /// What is here of this life of the server that is newer than what the asker has.
    pub(super) fn newer(&self, server: &str, than: Option<u64>) -> Option<Held> {
        let held = lock(&self.0).clone();
        held.filter(|held| held.server == server && Some(held.version) > than)
    }

    /// One of them has pulled this.
    pub(super) fn note(&self, held: Held) {
        *lock(&self.0) = Some(held);
    }

    /// Makes room for what comes: only what is of use to the other one is kept.
    pub(super) fn forget(&self, params: &Arc<Params>) {
        let mut newest = lock(&self.0);
        if newest
            .as_ref()
            .is_some_and(|held| Arc::ptr_eq(&held.params, params))
        {
            *newest = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dsgd_core::params::Layout;

    #[test]
    fn only_what_is_newer_and_of_one_life_is_of_use() {
        let params = Arc::new(Params::zeros(Arc::new(Layout::new())));
        let newest = Newest::default();
        let held = |version| Held {
            server: "a".to_owned(),
            version,
            params: Arc::clone(&params),
        };
        let version = |server, than| newest.newer(server, than).map(|held| held.version);
        assert_eq!(version("a", None), None);
        newest.note(held(7));
        assert_eq!(version("a", None), Some(7));
        assert_eq!(version("a", Some(6)), Some(7));
        assert_eq!(version("a", Some(7)), None);
        assert_eq!(version("b", Some(6)), None, "another life has other values");
        newest.forget(&params);
        assert_eq!(version("a", None), None);
    }
}
