//! The folder of the embedded database and the development key.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::config::Config;
use crate::domain::diagnosis::Diagnosis;
use crate::http::auth::{DevelopmentIssuer, DevelopmentKeyError};

/// Permission bit: everybody may write.
const OTHERS_WRITE: u32 = 0o002;

const SUBJECT: &str = "data directory";

pub(super) fn examine(config: &Config) -> Diagnosis {
    let folder = &config.data_dir;
    let shown = folder.display();
    if !config.database.is_embedded() && !folder.exists() {
        return Diagnosis::note(SUBJECT, format!("{shown} does not exist, and is needed for the development key only"));
    }
    match fs::metadata(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Diagnosis::note(SUBJECT, format!("{shown} does not exist yet; the first start makes it"));
        }
        Err(error) => {
            return Diagnosis::wrong(SUBJECT, format!("{shown} cannot be looked at: {error}"))
                .advise("Set data_dir to a folder that the server's user may read and write.");
        }
        Ok(metadata) if !metadata.is_dir() => {
            return Diagnosis::wrong(SUBJECT, format!("{shown} is not a folder")).advise("Set data_dir to one.");
        }
        Ok(metadata) if metadata.permissions().mode() & OTHERS_WRITE != 0 => {
            return Diagnosis::wrong(SUBJECT, format!("everybody may write to {shown}, and so replace the database and the key"))
                .advise(format!("chmod o-w {shown}"));
        }
        Ok(_) => {}
    }
    // Only a write shows whether one is possible: read-only file systems and quotas have no permission bit.
    let probe = folder.join(format!(".nworkflow-doctor-{}", std::process::id()));
    if let Err(error) = fs::write(&probe, b"probe").and_then(|()| fs::remove_file(&probe)) {
        if !config.database.is_embedded() {
            return Diagnosis::note(SUBJECT, format!("{shown} cannot be written to, and need not be: the database is elsewhere"));
        }
        return Diagnosis::wrong(SUBJECT, format!("nothing can be written to {shown}: {error}"))
            .advise("Let the server's user write there, or set data_dir to another folder.");
    }
    match DevelopmentIssuer::load(folder) {
        Ok(_) | Err(DevelopmentKeyError::Absent(_)) => Diagnosis::fine(SUBJECT, format!("{shown} can be written to")),
        Err(error) => Diagnosis::wrong(SUBJECT, error.to_string()),
    }
}
