//! Parameters and gradients on their way in: put together from chunks, and trusted in nothing.
//!
//! Chunks must come in the one order in which a layout travels, without gaps and without
//! anything left over, so what has arrived is known by a tensor and an offset. Nothing is
//! allocated for what a peer says that it will send: values go straight into buffers that
//! have the layout's size. Norms are taken on the way, while a chunk is in the cache.

mod cursor;
mod error;
mod gradient;
mod params;

pub use error::WireError;
pub use gradient::IncomingGradient;
pub use params::IncomingParams;
