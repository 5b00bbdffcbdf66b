//! What this machine can do, measured the way that runs use it.
//!
//! `wire` moves a model's parameters and gradients through our gRPC, and the same bytes through
//! what lies below it, for there is no more to be had than that. `server` is a server whose
//! workers sleep instead of computing; `observe` is what looking on costs. How long a step of a model
//! takes is told by the program itself: `dsgd bench step`. `codec` is what codecs cost.

mod codec;
mod load;
mod median;
mod observe;
mod raw;
mod route;
mod server;
mod wire;

use clap::Parser;
use dsgd_observe::output::written;

/// Measure wire, server, codecs and observers on this machine.
#[derive(Debug, Parser)]
#[command(version)]
enum Bench {
    /// Pull and push over loopback: gRPC against bare TCP and bare TLS
    Wire(wire::WireArgs),
    /// A server's processor time and memory, with workers that sleep
    Server(server::ServerArgs),
    /// What codecs cost, and how small they make what travels
    Codec(codec::CodecArgs),
    /// What looking on costs a step: all observers against none, in pairs
    Observe(observe::ObserveArgs),
}

fn main() -> anyhow::Result<()> {
    match Bench::parse() {
        Bench::Wire(args) => wire::run(&args)?,
        Bench::Server(args) => server::run(&args)?,
        Bench::Codec(args) => codec::run(&args),
        Bench::Observe(args) => observe::run(&args)?,
    }
    Ok(written()?)
}
