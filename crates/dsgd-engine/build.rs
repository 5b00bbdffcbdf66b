//! Makes Rust of the wire's schema; no `protoc` is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let schema = protox::compile(["proto/dsgd.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        // The calls that carry tensors are framed by `wire::framing`.
        .generate_default_stubs(true)
        .compile_fds(schema)?;
    Ok(())
}
