//! The parameters' keeper: it owns what an update rule carries from step to step, and runs it over all
//! tensors of a layout ([`Updater`]), also while others are reading ([`Versions`]).

mod update;
mod versions;

#[cfg(test)]
mod tests;

pub use update::Updater;
pub use versions::Versions;
