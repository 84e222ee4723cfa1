//! Generates the request and response types from the wire contract in `net/proto`. A set of its own, so that
//! the load generator builds without the server's crates and keeps working while they are being changed.

const FILES: [&str; 3] = ["rpc.proto", "kv.proto", "auth.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../net/proto");
    let descriptors = protox::compile(FILES, ["../net/proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}
