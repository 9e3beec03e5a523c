//! The folder of the embedded database and the development key.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::Finding;
use crate::config::Config;
use crate::http::auth::{DevelopmentIssuer, DevelopmentKeyError};

/// Permission bit: everybody may write.
const OTHERS_WRITE: u32 = 0o002;

pub(super) fn examine(config: &Config) -> Finding {
    let folder = &config.data_dir;
    let shown = folder.display();
    if !config.database.is_embedded() && !folder.exists() {
        return Finding::Note(format!("{shown} does not exist, and is needed for the development key only"));
    }
    match fs::metadata(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Finding::Note(format!("{shown} does not exist yet; the first start makes it"));
        }
        Err(error) => return Finding::Wrong(format!("{shown} cannot be looked at: {error}")),
        Ok(metadata) if !metadata.is_dir() => return Finding::Wrong(format!("{shown} is not a folder; set data_dir to one")),
        Ok(metadata) if metadata.permissions().mode() & OTHERS_WRITE != 0 => {
            return Finding::Wrong(format!("everybody may write to {shown}, and so replace the database and the key: chmod o-w it"));
        }
        Ok(_) => {}
    }
    // Only a write shows whether one is possible: read-only file systems and quotas have no permission bit.
    let probe = folder.join(format!(".nworkflow-doctor-{}", std::process::id()));
    if let Err(error) = fs::write(&probe, b"probe").and_then(|()| fs::remove_file(&probe)) {
        return Finding::Wrong(format!("nothing can be written to {shown}: {error}"));
    }
    match DevelopmentIssuer::load(folder) {
        Ok(_) | Err(DevelopmentKeyError::Absent(_)) => Finding::Fine(format!("{shown} can be written to")),
        Err(error) => Finding::Wrong(error.to_string()),
    }
}
