//! Where settings come from: defaults, file, environment, flags.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::{Table, Value};

use super::schema::{Entry, SECRETS, Schema};
use super::{Config, validate};

/// What the names of environment variables begin with; the rest is the path, with `__` between its parts.
const ENVIRONMENT_PREFIX: &str = "NWORKFLOW__";
/// Largest file of a secret, in bytes.
const MAX_SECRET_FILE_BYTES: usize = 65_536;

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
    let schema = Schema::new().map_err(|error| ConfigError(format!("the compiled-in defaults cannot be read: {error}")))?;
    let mut layers = Layers { tree: schema.defaults(), schema, origins: BTreeMap::new() };
    if let Some(file) = &source.file {
        layers.read_file(file)?;
    }
    for (name, value) in &source.environment {
        if let Some(path) = name.strip_prefix(ENVIRONMENT_PREFIX) {
            let path = layers.environment_path(path);
            layers.set_text(&path, value, Origin::Environment(name.clone()))?;
        }
    }
    for (name, value) in &source.flags {
        let path: Vec<String> = name.split('.').map(str::to_owned).collect();
        layers.set_text(&path, value, Origin::Flag)?;
    }
    layers.read_secret_files()?;
    let config = layers.config().map_err(ConfigError)?;
    let problems = validate::problems(&config);
    if problems.is_empty() {
        return Ok(config);
    }
    let lines: Vec<String> = problems.iter().map(|problem| layers.explain(problem)).collect();
    Err(ConfigError(lines.join("\n")))
}

/// Where a value came from.
#[derive(Debug, Clone)]
enum Origin {
    File(PathBuf),
    Environment(String),
    Flag,
}

impl Origin {
    /// The setting, as whoever set it wrote it.
    fn name(&self, path: &[String]) -> String {
        match self {
            Self::File(file) => format!("{}: {}", file.display(), path.join(".")),
            Self::Environment(variable) => variable.clone(),
            Self::Flag => format!("--set {}", path.join(".")),
        }
    }

    /// Another setting, as it would be written there.
    fn other_name(&self, path: &[String]) -> String {
        match self {
            Self::Environment(_) => format!("{ENVIRONMENT_PREFIX}{}", path.join("__").to_uppercase()),
            Self::File(_) | Self::Flag => path.join("."),
        }
    }

    fn error(&self, path: &[String], message: &str) -> ConfigError {
        ConfigError(format!("{}: {message}", self.name(path)))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "set in {}", file.display()),
            Self::Environment(variable) => write!(f, "set by the environment variable {variable}"),
            Self::Flag => f.write_str("set on the command line"),
        }
    }
}

/// The tree of settings while layer after layer is laid upon it.
struct Layers {
    schema: Schema,
    tree: Table,
    origins: BTreeMap<Vec<String>, Origin>,
}

impl Layers {
    fn read_file(&mut self, file: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| ConfigError(format!("the configuration file {} cannot be read: {error}", file.display())))?;
        // The parser's own rendering quotes the line, which may hold a password.
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let line = error.span().map_or(1, |span| text.as_bytes().iter().take(span.start).filter(|byte| **byte == b'\n').count() + 1);
            ConfigError(format!("{}: line {line} is not TOML: {}", file.display(), error.message()))
        })?;
        self.set_table(table, &mut Vec::new(), &Origin::File(file.to_owned()))
    }

    fn set_table(&mut self, table: Table, prefix: &mut Vec<String>, origin: &Origin) -> Result<(), ConfigError> {
        for (key, value) in table {
            prefix.push(key);
            match (self.schema.entry(prefix), value) {
                (Some(Entry::Section), Value::Table(inner)) => self.set_table(inner, prefix, origin)?,
                (Some(Entry::Section), _) => return Err(origin.error(prefix, "is a section, not a setting")),
                (Some(Entry::Setting(kind)), value) if kind.accepts(&value) => self.set(prefix, value, origin.clone())?,
                (Some(Entry::Setting(kind)), _) => return Err(origin.error(prefix, kind.description())),
                (None, _) => return Err(self.unknown(prefix, origin)),
            }
            prefix.pop();
        }
        Ok(())
    }

    fn set_text(&mut self, path: &[String], text: &str, origin: Origin) -> Result<(), ConfigError> {
        match self.schema.entry(path) {
            Some(Entry::Setting(kind)) => match kind.read(text) {
                Some(value) => self.set(path, value, origin),
                None => Err(origin.error(path, kind.description())),
            },
            Some(Entry::Section) => Err(origin.error(path, "is a section, not a setting")),
            None => Err(self.unknown(path, &origin)),
        }
    }

    /// Sets one value and reads the whole tree with it, so that a value of the right kind that is still impossible (an address, a port
    /// above 65535) is reported under its own name.
    fn set(&mut self, path: &[String], value: Value, origin: Origin) -> Result<(), ConfigError> {
        let issuer = self.schema.issuer();
        let Some((key, parents)) = path.split_last() else { return Ok(()) };
        let mut table = &mut self.tree;
        for (depth, parent) in parents.iter().enumerate() {
            let empty = if depth == 2 { issuer.clone() } else { Table::new() };
            let Value::Table(inner) = table.entry(parent.clone()).or_insert(Value::Table(empty)) else { return Ok(()) };
            table = inner;
        }
        table.insert(key.clone(), value);
        self.config().map_err(|message| origin.error(path, &message))?;
        self.origins.insert(path.to_vec(), origin);
        Ok(())
    }

    /// The path that an environment variable names. Names of issuers and roles that exist already are found again whatever their case,
    /// and with `_` for `-`, which shells do not allow in names.
    fn environment_path(&self, name: &str) -> Vec<String> {
        let mut path: Vec<String> = name.split("__").map(str::to_lowercase).collect();
        if let [auth, table, name, ..] = path.as_mut_slice()
            && auth == "auth"
            && let Some(existing) = self.tree.get("auth").and_then(|auth| auth.get(table.as_str())).and_then(Value::as_table)
            && let Some(known) = existing.keys().find(|known| known.to_lowercase().replace('-', "_") == name.replace('-', "_"))
        {
            name.clone_from(known);
        }
        path
    }

    fn read_secret_files(&mut self) -> Result<(), ConfigError> {
        for [section, key] in SECRETS {
            let secret = [section.to_owned(), key.to_owned()];
            let twin = [section.to_owned(), format!("{key}_file")];
            let Some(file) = self.text(&twin).filter(|file| !file.is_empty()).map(PathBuf::from) else { continue };
            if self.text(&secret).is_some_and(|text| !text.is_empty()) {
                let message = format!("{section}.{key} and {section}.{key}_file are both set; keep one of them");
                return Err(ConfigError(self.explain(&validate::Problem::new([section, key], message))));
            }
            let text = read_secret(&file).map_err(|reason| {
                ConfigError(format!("{section}.{key}_file: the file {} {reason}{}", file.display(), self.origin_note(&twin)))
            })?;
            if let Some(table) = self.tree.get_mut(section).and_then(Value::as_table_mut) {
                table.insert(key.to_owned(), Value::String(text));
            }
        }
        Ok(())
    }

    fn text(&self, path: &[String; 2]) -> Option<&str> {
        self.tree.get(&path[0])?.get(&path[1])?.as_str()
    }

    fn config(&self) -> Result<Config, String> {
        let mut tree = self.tree.clone();
        // The type has no value for a file that is not set.
        for [section, key] in SECRETS {
            let twin = format!("{key}_file");
            if let Some(table) = tree.get_mut(section).and_then(Value::as_table_mut)
                && table.get(&twin).and_then(Value::as_str) == Some("")
            {
                table.remove(&twin);
            }
        }
        Config::deserialize(tree).map_err(|error| error.message().to_owned())
    }

    fn unknown(&self, path: &[String], origin: &Origin) -> ConfigError {
        let hint = self.schema.nearest(path).map(|name| format!("; did you mean {}?", origin.other_name(&name)));
        origin.error(path, &format!("there is no such setting{}", hint.unwrap_or_default()))
    }

    fn explain(&self, problem: &validate::Problem) -> String {
        let path: Vec<String> = problem.path.split('.').map(str::to_owned).collect();
        format!("{}{}", problem.message, self.origin_note(&path))
    }

    fn origin_note(&self, path: &[String]) -> String {
        self.origins.get(path).map(|origin| format!(" ({origin})")).unwrap_or_default()
    }
}

/// The text of a secret's file, without the newline that editors end files with.
fn read_secret(file: &Path) -> Result<String, String> {
    let bytes = std::fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > MAX_SECRET_FILE_BYTES {
        return Err(format!("is larger than {MAX_SECRET_FILE_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::super::schema::Kind;
    use super::*;

    #[test]
    fn every_known_setting_can_be_set_to_its_default_by_environment() {
        let schema = Schema::new().expect("the default file is TOML");
        let defaults = schema.defaults();
        for path in schema.names() {
            let value = path.iter().try_fold(&Value::Table(defaults.clone()), |value, key| value.get(key)).cloned();
            let text = match value.expect("a name leads to a value") {
                Value::String(text) => text,
                Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
                other => other.to_string(),
            };
            let variable = format!("{ENVIRONMENT_PREFIX}{}", path.join("__").to_uppercase().replace('-', "_"));
            let source = Source { environment: BTreeMap::from([(variable.clone(), text)]), ..Source::default() };
            let config = load(&source).unwrap_or_else(|error| panic!("{variable}: {error}"));
            let plain = load(&Source::default()).expect("the defaults are valid");
            assert_eq!(toml::to_string(&config).ok(), toml::to_string(&plain).ok(), "{variable} changed more than nothing");
        }
    }

    #[test]
    fn kinds_do_not_turn_texts_into_numbers() {
        assert_eq!(Kind::Text.read("007"), Some(Value::String("007".to_owned())));
        assert_eq!(Kind::Integer.read("007"), Some(Value::Integer(7)));
        assert_eq!(Kind::Integer.read("7s"), None);
        assert_eq!(Kind::Boolean.read("yes"), None);
    }
}
