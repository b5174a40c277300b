//! Generates the Rust types from the `.proto` files, without `protoc`.

use std::{env, fs, path::PathBuf};

use prost::Message;

const FILES: [&str; 6] = [
    "caselock/v1/ingest.proto",
    "caselock/v1/metadata.proto",
    "caselock/v1/recording.proto",
    "caselock/v1/registry.proto",
    "caselock/log/v1/facts.proto",
    "caselock/events/v1/events.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=caselock");
    let descriptors = protox::compile(FILES, ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".").build_transport(true).compile_fds(descriptors)?;
    Ok(())
}
