//! Arrow to and from Avro, row-exact.
//!
//! A [`CoercionPlan`] is resolved once for a pair of schemas and holds one rule a column. An [`Encoder`] runs a batch
//! through the plan in two passes: the gate converts and checks column by column, giving [`Reject`]s for the rows that
//! can't be what the schema says, and then the rows that passed are written, framed, into one buffer. A [`Decoder`]
//! goes the other way, one message at a time, and a bad message takes nothing with it.
//!
//! No I/O, no clock, no threads; nothing here panics, wraps or truncates, whatever the data.
#![deny(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod canonical;
pub mod compat;
mod cpu;
mod decode;
mod defaults;
mod encode;
mod error;
pub mod framing;
mod gate;
pub mod matrix;
mod parse;
mod plan;
mod reasons;
mod schema;
mod temporal;
mod types;
mod uuid;
mod wire;

pub use decode::Decoder;
pub use encode::{Encoded, Encoder};
pub use error::{DecodeError, EncodeError, FrameError, PlanError, ResolutionError, SchemaError};
pub use gate::Reject;
pub use plan::{
    Certainty, CoercionPlan, Extra, FieldDeclaration, Lossy, Mode, NanAs, NullAs, PlanOptions,
    PlanRow, Unit,
};
pub use schema::AvroSchema;
pub use types::{AvroType, DecimalType, EnumType, FixedType, RecordField, RecordType, SubSecond};
