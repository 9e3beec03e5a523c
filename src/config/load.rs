//! Where settings come from: defaults, file, environment, flags.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serializer};

use super::{Config, DEFAULTS};

/// What the settings are read from, beside the compiled-in defaults.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The file of `--config`.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not begin with `NWORKFLOW__` are ignored.
    pub environment: BTreeMap<String, String>,
    /// Settings of command line flags, by dotted name.
    pub flags: Vec<(String, String)>,
}

/// Why there are no settings. Names the key and where it came from; never holds a secret's value.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// Reads and validates the settings.
///
/// # Errors
/// An unknown key, a wrong type, an impossible value, an unreadable file.
pub fn load(source: &Source) -> Result<Config, ConfigError> {
    let _ = source;
    config::Config::builder()
        .add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml))
        .build()
        .and_then(config::Config::try_deserialize)
        .map_err(|error| ConfigError(error.to_string()))
}

/// A list, also written as one text with commas (as environment variables are).
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(List::deserialize(deserializer)?.into())
}

/// The role table; each list may be one text with commas.
pub(super) fn roles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let roles = BTreeMap::<String, List>::deserialize(deserializer)?;
    Ok(roles.into_iter().map(|(role, permissions)| (role, permissions.into())).collect())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum List {
    Items(Vec<String>),
    Text(String),
}

impl From<List> for Vec<String> {
    fn from(list: List) -> Self {
        match list {
            List::Items(items) => items,
            List::Text(text) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect(),
        }
    }
}

/// A socket address or, as the empty text, none.
pub(super) mod optional_address {
    use super::{Deserialize as _, Deserializer, Serializer, SocketAddr};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(serde::de::Error::custom) }
    }

    pub(in super::super) fn serialize<S: Serializer>(address: &Option<SocketAddr>, serializer: S) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => serializer.collect_str(address),
            None => serializer.serialize_str(""),
        }
    }
}
