//! The store on S3 and what speaks its protocol (MinIO, Ceph), with versioning and object lock.

mod attempts;
mod client;
mod error;
mod lifecycle;
mod store;

pub use client::{S3Config, connect};
pub use store::S3Store;
