//! Compiles the wire contract (`proto/`) with protox, so that no system `protoc` is needed.
//! Every `bytes` field becomes `bytes::Bytes`, which points into the receive buffer.

#[cfg(feature = "types")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 6] = ["rpc.proto", "kv.proto", "auth.proto", "lock.proto", "election.proto", "health.proto"];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}

#[cfg(not(feature = "types"))]
fn main() {}
