//! The documentation of every setting (`docs/configuration.md`): names, types and defaults from the schema, bounds from the validation, the words
//! from the comments of `config/default.toml`.

use std::collections::BTreeMap;

use toml::Value;

use super::schema::{Entry, Kind, SECRETS, Schema};
use super::{ConfigError, DEFAULTS, Source, load, validate};

const INTRODUCTION: &str = "\
# Settings

Every setting of nworkflow-state. This page is made by `make docs` from [config/default.toml](../config/default.toml), the settings' types and
the checks at start; a test compares it with them.

Settings are read in this order, later ones win: the defaults, the file of `--config`, the environment, `--set section.key=value`. An unknown key
and an impossible value stop the start and are named. `nworkflow-state config print` shows what is in force, secrets as `***`; `config check`
only checks; `doctor` also looks at what the settings lead to ([operation.md](operation.md)).

- Lists are written in a file as `[\"a\", \"b\"]`, in the environment as `a,b`.
- A secret can also be read from a file: set the variable that ends in `_FILE` to its path. One newline at the end is not part of it.
- Bounds are given for the other settings at their defaults; where one depends on another, the description says so.
";

/// What a comment says about the settings of a section, and about the section.
#[derive(Debug, Default)]
struct Section {
    words: String,
    settings: BTreeMap<String, String>,
    /// The names as they come in the file.
    order: Vec<String>,
}

/// The page, in Markdown.
///
/// # Errors
/// The compiled-in defaults cannot be read, which a test rules out.
pub fn reference() -> Result<String, ConfigError> {
    let schema = Schema::new().map_err(ConfigError)?;
    let bounds = validate::bounds(&load(&Source::default())?);
    let mut page = INTRODUCTION.to_owned();
    for (name, section) in sections() {
        page.push_str(&heading(&name, &section));
        if name == "auth.roles" {
            page.push_str("\n| role | environment variable | permissions | what it is for |\n|---|---|---|---|\n");
        } else {
            page.push_str("\n| setting | environment variable | type | default | bounds | what it is |\n|---|---|---|---|---|---|\n");
        }
        for key in rows(&name, &section) {
            let path: Vec<String> = if name.is_empty() { vec![] } else { name.split('.').map(str::to_owned).collect() };
            let path = [path, vec![key.clone()]].concat();
            page.push_str(&row(&schema, &bounds, &path, &words(&section, &key)));
        }
    }
    Ok(page)
}

fn heading(name: &str, section: &Section) -> String {
    let mut words = section.words.clone();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if name.is_empty() { "\n## Outside of a section\n".to_owned() } else { format!("\n## `[{name}]`\n\n{words}.\n") }
}

/// The settings of a section, each secret followed by its file.
fn rows(name: &str, section: &Section) -> Vec<String> {
    let is_secret = |key: &str| SECRETS.contains(&[name, key]);
    section.order.iter().flat_map(|key| [Some(key.clone()), is_secret(key).then(|| format!("{key}_file"))]).flatten().collect()
}

fn words(section: &Section, key: &str) -> String {
    match section.settings.get(key) {
        Some(words) => words.clone(),
        None => key.strip_suffix("_file").map_or_else(String::new, |secret| format!("a file that holds `{secret}`, instead of it")),
    }
}

fn row(schema: &Schema, bounds: &BTreeMap<String, [String; 2]>, path: &[String], words: &str) -> String {
    let name = path.join(".");
    let variable = format!("NWORKFLOW__{}", path.join("__").to_uppercase().replace('-', "_"));
    let default = schema.default(path);
    let words = words.replace('|', "\\|");
    if path.len() == 3 && name.starts_with("auth.roles.") {
        let list = default.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let list: Vec<String> = list.map(|permission| format!("`{permission}`")).collect();
        return format!("| `{}` | `{variable}` | {} | {words} |\n", path.last().map_or("", String::as_str), list.join(" "));
    }
    let kind = match schema.entry(path) {
        Some(Entry::Setting(kind)) => type_name(kind, path),
        _ => String::new(),
    };
    let bounds = bounds.get(&name).map_or_else(String::new, |[least, most]| format!("{least} to {most}"));
    let required = path.len() == 4 && ["issuer", "audience", "tenant"].iter().any(|key| path.last().is_some_and(|last| last == key));
    let default = match default {
        _ if required => "required".to_owned(),
        Some(value) => format!("`{value}`"),
        None => String::new(),
    };
    format!("| `{name}` | `{variable}` | {kind} | {default} | {bounds} | {words} |\n")
}

/// The type, with its unit where the name tells one.
fn type_name(kind: Kind, path: &[String]) -> String {
    let key = path.last().map_or("", String::as_str);
    let is_secret = SECRETS.iter().any(|secret| secret.iter().eq(path));
    let name = match kind {
        Kind::Integer if key.ends_with("_ms") => "milliseconds",
        Kind::Integer if key.ends_with("_seconds") => "seconds",
        Kind::Integer if key.ends_with("_bytes") => "bytes",
        Kind::Integer => "whole number",
        Kind::Boolean => "`true` or `false`",
        Kind::List => "list",
        Kind::Text if is_secret => "secret text",
        Kind::Text if key.ends_with("_file") || key == "data_dir" => "path",
        Kind::Text => "text",
    };
    name.to_owned()
}

/// The sections of the default file in their order, with what its comments say. The commented example of an issuer is a section too.
fn sections() -> Vec<(String, Section)> {
    let mut found = vec![(String::new(), Section::default())];
    let mut before = "";
    for line in DEFAULTS.lines() {
        let example = found.last().is_some_and(|(name, _)| name.starts_with("auth.issuers"));
        let header = line.strip_prefix("# ").filter(|line| line.starts_with("[auth.issuers.")).unwrap_or(line);
        if let Some((name, rest)) = header.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let words = comment(rest).or_else(|| before.strip_prefix("# ")).unwrap_or_default();
            found.push((name.to_owned(), Section { words: words.trim_end_matches(':').to_owned(), ..Section::default() }));
        } else if let Some((key, rest)) = line.strip_prefix("# ").filter(|_| example).unwrap_or(line).split_once(" = ")
            && !key.starts_with([' ', '#'])
            && let Some((_, section)) = found.last_mut()
        {
            section.order.push(key.to_owned());
            section.settings.insert(key.to_owned(), comment(rest).unwrap_or_default().to_owned());
        }
        before = line;
    }
    found
}

fn comment(text: &str) -> Option<&str> {
    text.split_once(" # ").map(|(_, comment)| comment.trim())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn documented() -> BTreeMap<String, String> {
        let sections = sections();
        let rows = sections.iter().flat_map(|(name, section)| {
            let prefix = if name.is_empty() { String::new() } else { format!("{name}.") };
            rows(name, section).into_iter().map(move |key| (format!("{prefix}{key}"), words(section, &key)))
        });
        rows.collect()
    }

    #[test]
    fn every_setting_is_documented_and_nothing_else() {
        let schema = Schema::new().unwrap();
        let issuer = schema.issuer();
        let known = schema.names().into_iter().map(|name| name.join("."));
        let known: BTreeSet<String> = known.chain(issuer.keys().map(|key| format!("auth.issuers.NAME.{key}"))).collect();
        let documented = documented();
        assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), known);
        let silent: Vec<_> = documented.iter().filter(|(_, words)| words.is_empty()).collect();
        assert!(silent.is_empty(), "config/default.toml says nothing about {silent:?}");
        let sections = sections();
        let silent: Vec<_> = sections.iter().skip(1).filter(|(_, section)| section.words.is_empty()).map(|(name, _)| name).collect();
        assert!(silent.is_empty(), "config/default.toml says nothing about {silent:?}");
    }

    #[test]
    fn every_number_has_bounds_and_they_hold() {
        let schema = Schema::new().unwrap();
        let bounds = validate::bounds(&load(&Source::default()).unwrap());
        for path in schema.names() {
            let name = path.join(".");
            if schema.entry(&path) != Some(Entry::Setting(Kind::Integer)) {
                assert!(!bounds.contains_key(&name), "{name}");
                continue;
            }
            let [least, most] = bounds.get(&name).unwrap_or_else(|| panic!("{name} has no bounds in config/validate.rs"));
            let refused = |value: String| load(&Source { flags: vec![(name.clone(), value)], ..Source::default() }).is_err();
            let (least, most): (i64, i64) = (least.parse().unwrap(), most.parse().unwrap());
            assert!(refused((least - 1).to_string()), "{name} may be less than {least}");
            assert!(refused((most + 1).to_string()), "{name} may be more than {most}");
        }
    }
}
