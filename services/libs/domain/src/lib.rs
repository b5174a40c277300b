//! The rules of Caselock: ids, metadata, digests, retention, facts and the state that follows from them.
//!
//! Nothing here does I/O, reads a clock or draws random numbers: what varies is passed in, so every rule can be tested
//! on any date.

pub mod calendar;
pub mod case;
pub mod dead_letter;
pub mod deadline;
pub mod derived;
pub mod digest;
pub mod disposal;
pub mod event;
pub mod extension;
pub mod fact;
pub mod flag;
pub mod footage;
pub mod id;
pub mod manifest;
pub mod metadata;
pub mod object_key;
pub mod partition;
pub mod reason;
pub mod receipt;
pub mod retention;
pub mod shape;
pub mod state;
pub mod time;
pub mod verification;
