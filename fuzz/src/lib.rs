//! What the fuzzers call. The crate's tests call the same on the corpus that the fuzzers left (`rust/avro/tests/fuzz.rs`).
#![warn(missing_docs)]

pub mod arrays;
pub mod choices;
pub mod decode;
pub mod encode;
pub mod memory;
pub mod mutation;
pub mod reference;
pub mod schema;
pub mod schemas;
pub mod slots;
pub mod sources;
pub mod texts;
pub mod types;
pub mod values;
