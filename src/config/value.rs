//! Values that are written in more than one way.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serializer};

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

/// Networks, each written with its prefix or as the one address that it is.
pub(super) mod networks {
    use std::net::IpAddr;

    use ipnet::IpNet;

    use super::{Deserializer, Serializer, list};

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
        let read = |text: &String| {
            let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            network.ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no network such as 10.0.0.0/8 and no address")))
        };
        list(deserializer)?.iter().map(read).collect()
    }

    pub(in super::super) fn serialize<S: Serializer>(networks: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(networks.iter().map(ToString::to_string))
    }
}
