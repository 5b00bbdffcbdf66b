//! The wire: how the server and workers elsewhere speak, by gRPC (`proto/dsgd.proto`).

/// What travels, as the schema has it.
#[allow(clippy::pedantic, missing_docs, unreachable_pub)]
pub mod proto {
    tonic::include_proto!("dsgd.v1");
}
