//! The wire formats of Caselock, generated from the `.proto` files beside this crate.
//!
//! The comments of the `.proto` files are the documentation; they are carried over into the generated items.
#![allow(missing_docs, clippy::doc_lazy_continuation, clippy::large_enum_variant)]

/// The public API: what bureaus' clients speak.
pub mod v1 {
    tonic::include_proto!("caselock.v1");
}

/// Internal records of the log. Not an API: only Caselock's services read and write them.
pub mod log {
    /// Version 1 of the internal records.
    pub mod v1 {
        tonic::include_proto!("caselock.log.v1");
    }
}

/// The payloads of the public events.
pub mod events {
    /// Version 1 of the events.
    pub mod v1 {
        tonic::include_proto!("caselock.events.v1");
    }
}

/// The compiled descriptors of every file, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
