//! How workers come to be: a [`Launcher`] for each way.

mod by_hand;
mod entrance;
pub mod fleet;
mod host_options;
mod joined;
mod launcher;
pub mod local;
mod membership;
pub mod process;
mod program;
mod remote;
mod supervisor;
pub mod trouble;

pub use entrance::{Entrance, EntranceOptions};
pub use joined::Joined;
pub use launcher::{Handle, LaunchError, LaunchSpec, Launcher};
pub use local::Local;
pub use program::{ListedHosts, Room};
pub use remote::{Remote, RemoteOptions};
