//! Which settings exist and what each may hold. Read off the default file and the issuer type, so that there is no second list of names.

use toml::{Table, Value};

use super::{DEFAULTS, IssuerConfig, TokenProfile};

/// The settings that are secrets. Each has a twin `KEY_file` that names a file with its value.
pub(super) const SECRETS: [[&str; 2]; 6] = [
    ["database", "url"],
    ["database", "password"],
    ["database", "migrate_url"],
    ["dragonfly", "url"],
    ["dragonfly", "password"],
    ["secrets", "key"],
];

/// What a setting may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Boolean,
    List,
}

impl Kind {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(_) => Some(Self::Text),
            Value::Integer(_) => Some(Self::Integer),
            Value::Boolean(_) => Some(Self::Boolean),
            Value::Array(_) => Some(Self::List),
            _ => None,
        }
    }

    /// What a value of this kind is called in an error.
    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::Text => "must be a text in quotes",
            Self::Integer => "must be a whole number",
            Self::Boolean => "must be true or false",
            Self::List => "must be a list of texts",
        }
    }

    /// Checks a value of a file.
    pub(super) fn accepts(self, value: &Value) -> bool {
        let text = |item: &Value| item.is_str();
        match self {
            // Lists may be one text with commas everywhere, not only in the environment.
            Self::List => value.is_str() || value.as_array().is_some_and(|items| items.iter().all(text)),
            _ => Self::of(value) == Some(self),
        }
    }

    /// Reads a value that came as text, from the environment or a flag. A text stays as it is: `007` is no number.
    pub(super) fn read(self, text: &str) -> Option<Value> {
        match self {
            Self::Text | Self::List => Some(Value::String(text.to_owned())),
            Self::Integer => text.trim().parse().ok().map(Value::Integer),
            Self::Boolean => text.trim().parse().ok().map(Value::Boolean),
        }
    }
}

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// A setting.
    Setting(Kind),
    /// A table of settings.
    Section,
}

/// All known settings.
pub(super) struct Schema {
    defaults: Table,
    issuer: Table,
}

impl Schema {
    /// The schema of the compiled-in defaults. The error cannot happen while the default file is valid, which a test proves.
    pub(super) fn new() -> Result<Self, String> {
        let mut defaults: Table = DEFAULTS.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
        for [section, key] in SECRETS {
            if let Some(section) = defaults.get_mut(section).and_then(Value::as_table_mut) {
                section.insert(format!("{key}_file"), Value::String(String::new()));
            }
        }
        let issuer = IssuerConfig {
            issuer: String::new(),
            jwks_url: String::new(),
            audience: String::new(),
            tenant: String::new(),
            tenants: Vec::new(),
            profile: TokenProfile::default(),
            roles_claim: String::new(),
            clients: Vec::new(),
        };
        Ok(Self { defaults, issuer: Table::try_from(issuer).map_err(|error| error.to_string())? })
    }

    /// The defaults, as the tree that the layers are laid upon.
    pub(super) fn defaults(&self) -> Table {
        self.defaults.clone()
    }

    /// An issuer of which nothing is set yet.
    pub(super) fn issuer(&self) -> Table {
        self.issuer.clone()
    }

    /// What the name means; `None` when nothing is called so.
    pub(super) fn entry(&self, path: &[String]) -> Option<Entry> {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let value = match names.as_slice() {
            ["auth", "issuers"] | ["auth", "issuers", _] | ["auth", "roles"] => return Some(Entry::Section),
            ["auth", "issuers", _, key] => self.issuer.get(*key)?,
            ["auth", "roles", _] => return Some(Entry::Setting(Kind::List)),
            [section, rest @ ..] => rest.iter().try_fold(self.defaults.get(*section)?, |value, key| value.as_table()?.get(*key))?,
            [] => return Some(Entry::Section),
        };
        Some(Kind::of(value).map_or(Entry::Section, Entry::Setting))
    }

    /// The default value of a setting; of an issuer's what it is when it is left out.
    pub(super) fn default(&self, path: &[String]) -> Option<Value> {
        if let [auth, issuers, _, key] = path
            && auth == "auth"
            && issuers == "issuers"
        {
            return self.issuer.get(key).cloned();
        }
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.defaults.get(first)?, |value, key| value.get(key)).cloned()
    }

    /// The known name that is most like the given one, if one is alike enough to be what was meant.
    pub(super) fn nearest(&self, path: &[String]) -> Option<Vec<String>> {
        let wanted = path.join(".");
        let issuer_keys = match path {
            [auth, issuers, name, ..] if auth == "auth" && issuers == "issuers" => {
                self.issuer.keys().map(|key| vec![auth.clone(), issuers.clone(), name.clone(), key.clone()]).collect()
            }
            _ => Vec::new(),
        };
        self.names()
            .into_iter()
            .chain(issuer_keys)
            .map(|name| (strsim::osa_distance(&wanted, &name.join(".")), name))
            .min_by_key(|(distance, _)| *distance)
            .filter(|(distance, _)| *distance <= 3)
            .map(|(_, name)| name)
    }

    /// The names of all settings outside `auth.issuers`.
    pub(super) fn names(&self) -> Vec<Vec<String>> {
        let mut names = Vec::new();
        collect(&self.defaults, &mut Vec::new(), &mut names);
        names
    }
}

fn collect(table: &Table, prefix: &mut Vec<String>, names: &mut Vec<Vec<String>>) {
    for (key, value) in table {
        prefix.push(key.clone());
        match value {
            Value::Table(inner) => collect(inner, prefix, names),
            _ => names.push(prefix.clone()),
        }
        prefix.pop();
    }
}
