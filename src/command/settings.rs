//! The settings of a command: its flags and the process's environment as a source of configuration.

use std::path::PathBuf;

use super::Result;
use crate::config::{Config, ConfigError, Source, load};

/// Flags that every command takes.
#[derive(Debug, clap::Args)]
pub(super) struct SettingsArguments {
    /// A file of settings (TOML); the environment (NWORKFLOW__SECTION__KEY) and flags override it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting; may be repeated
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
    /// Folder of the embedded database and the development key
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<String>,
}

impl SettingsArguments {
    /// Loads the settings. `fixed` ones are the command's own and stand over everything.
    pub(super) fn load(&self, fixed: &[(&str, &str)]) -> Result<Config> {
        let data_dir = self.data_dir.iter().map(|folder| ("data_dir".to_owned(), folder.clone()));
        let fixed = fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let source = Source {
            file: self.config.clone(),
            environment: environment()?,
            flags: self.set.iter().cloned().chain(data_dir).chain(fixed).collect(),
        };
        Ok(load(&source)?)
    }
}

fn assignment(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("is not of the form section.key=value".to_owned()),
    }
}

/// The variables of this project. One of ours that is not UTF-8 is an error; others' are none of our business.
fn environment() -> Result<std::collections::BTreeMap<String, String>> {
    let mut variables = std::collections::BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("NWORKFLOW__")) else { continue };
        let value = value.into_string().map_err(|_| ConfigError(format!("{name}: is not UTF-8")))?;
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}
