//! Files that survive a power cut: written beside, synced, renamed.

use crate::Error;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces a file as a whole, readable by its owner only.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let what = || Error::io(format!("write {}", path.display()));
    let beside = path.with_extension("primacy-new");
    let mut options = File::options();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut file = options.open(&beside).map_err(what())?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(what())?;
    fs::rename(&beside, path).map_err(what())?;
    sync_parent(path)
}

/// Makes a rename or a new file in the folder of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(parent).and_then(|folder| folder.sync_all());
    synced.map_err(Error::io(format!("sync {}", parent.display())))
}

/// Removes a file; that it isn't there is no error.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { what: format!("remove {}", path.display()), why: e })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
