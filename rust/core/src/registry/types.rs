//! What is sent to a registry and what comes back.

use std::fmt;
use std::str::FromStr;

use kappaflow_avro::framing::Guid;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// A schema as a registry keeps it: its text, and where the types are that it names and does not define.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct SchemaText {
    /// JSON of an Avro schema.
    pub schema: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
}

impl SchemaText {
    /// A schema that defines every type it names.
    pub fn whole(schema: impl Into<String>) -> Self {
        Self {
            schema: schema.into(),
            references: Vec::new(),
        }
    }
}

/// A type that another subject defines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Reference {
    /// The full name of the type.
    pub name: String,
    pub subject: String,
    pub version: u32,
}

/// What registering a schema gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Registered {
    pub id: u32,
    /// Newer registries tell it; it names the schema in every one of them.
    #[serde(default, deserialize_with = "read_guid")]
    pub guid: Option<Guid>,
}

/// A version of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    pub subject: String,
    pub version: u32,
    pub id: u32,
    #[serde(default, deserialize_with = "read_guid")]
    pub guid: Option<Guid>,
    #[serde(flatten)]
    pub text: SchemaText,
}

/// Which version of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which {
    Latest,
    Number(u32),
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

/// Whether a schema may become the next version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compatibility {
    pub compatible: bool,
    /// Why not, as the registry says it, or as our own comparison found where it says nothing.
    pub reasons: Vec<String>,
}

/// What a new version of a subject must be able to read (backward), be read by (forward), or both (full): the latest
/// version, or every one (transitive).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Level {
    None,
    #[default]
    Backward,
    BackwardTransitive,
    Forward,
    ForwardTransitive,
    Full,
    FullTransitive,
}

impl Level {
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// A new version must read what older ones wrote.
    pub fn backward(self) -> bool {
        matches!(
            self,
            Self::Backward | Self::BackwardTransitive | Self::Full | Self::FullTransitive
        )
    }

    /// Older versions must read what a new one writes.
    pub fn forward(self) -> bool {
        matches!(
            self,
            Self::Forward | Self::ForwardTransitive | Self::Full | Self::FullTransitive
        )
    }

    /// Against every version, not just the latest.
    pub fn transitive(self) -> bool {
        matches!(
            self,
            Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive
        )
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|level| level.name() == text);
        known.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is no compatibility level; expected one of {names}")
        })
    }
}

/// A schema that was asked for by what names it in a message, with every type that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub schema: String,
    /// Newer registries tell it.
    pub guid: Option<Guid>,
}

/// A GUID as registries write it, or none.
pub(super) fn read_guid<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Guid>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map_err(D::Error::custom))
        .transpose()
}
