//! The folder of the embedded database and the development key.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::config::Config;
use crate::domain::diagnosis::Diagnosis;
use crate::http::auth::{DevelopmentIssuer, DevelopmentKeyError};

/// Permission bit: everybody may write.
const OTHERS_WRITE: u32 = 0o002;

const SUBJECT: &str = "data directory";
const ADVICE: &str = "Let the server's user write there, or set data_dir to another folder.";

pub(super) fn examine(config: &Config) -> Diagnosis {
    let folder = &config.data_dir;
    let shown = folder.display();
    if !config.database.is_embedded() && !folder.exists() {
        return Diagnosis::note(SUBJECT, format!("{shown} does not exist, and is needed for the development key only"));
    }
    match fs::metadata(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return match makeable(folder) {
                Ok(()) => Diagnosis::note(SUBJECT, format!("{shown} does not exist yet; the first start makes it")),
                Err(reason) => Diagnosis::wrong(SUBJECT, format!("{shown} does not exist and cannot be made: {reason}")).advise(ADVICE),
            };
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            let reason = makeable(folder).err().unwrap_or_else(|| error.to_string());
            return Diagnosis::wrong(SUBJECT, format!("{shown} does not exist and cannot be made: {reason}")).advise(ADVICE);
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
    let probe = folder.join(probe_name());
    if let Err(error) = fs::write(&probe, b"probe").and_then(|()| fs::remove_file(&probe)) {
        if !config.database.is_embedded() {
            return Diagnosis::note(SUBJECT, format!("{shown} cannot be written to, and need not be: the database is elsewhere"));
        }
        return Diagnosis::wrong(SUBJECT, format!("nothing can be written to {shown}: {error}")).advise(ADVICE);
    }
    match DevelopmentIssuer::load(folder) {
        Ok(_) | Err(DevelopmentKeyError::Absent(_)) => Diagnosis::fine(SUBJECT, format!("{shown} can be written to")),
        Err(error) => Diagnosis::wrong(SUBJECT, error.to_string()),
    }
}

/// Something that nobody else makes.
fn probe_name() -> String {
    format!(".nworkflow-doctor-{}", std::process::id())
}

/// Whether the first start could make the folder with those above it: tried in the nearest one that is there, and taken away again.
fn makeable(folder: &Path) -> Result<(), String> {
    let here = Path::new(".");
    let above = folder.ancestors().map(|path| if path.as_os_str().is_empty() { here } else { path });
    // A link to nothing is there, and nothing can be made below it.
    let Some(nearest) = above.into_iter().find(|path| fs::symlink_metadata(path).is_ok()) else {
        return Err("no folder above it can be looked at".to_owned());
    };
    if !nearest.is_dir() {
        return Err(format!("{} is not a folder", nearest.display()));
    }
    let probe = nearest.join(probe_name());
    let tried = fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe));
    tried.map_err(|error| format!("nothing can be written to {}: {error}", nearest.display()))
}
