//! Workers that come by themselves, through a port that the server listens on.

use std::time::Duration;

use super::entrance::{Entrance, Opened};
use super::launcher::{Handle, LaunchError, LaunchSpec, Launcher};

/// Lets in whoever has the run's invitation.
pub struct Joined {
    entrance: Entrance,
}

impl Joined {
    /// Through this entrance, which listens on a port.
    pub fn through(entrance: Entrance) -> Self {
        Self { entrance }
    }
}

impl Launcher for Joined {
    fn workers(&self) -> Option<usize> {
        None
    }

    fn is_elsewhere(&self) -> bool {
        true
    }

    fn launch(self: Box<Self>, spec: LaunchSpec) -> Result<Box<dyn Handle>, LaunchError> {
        Ok(Box::new(self.entrance.open(&spec, None)?))
    }
}

impl Handle for Opened {
    fn dismiss(self: Box<Self>, within: Duration) {
        self.close(within);
    }
}
