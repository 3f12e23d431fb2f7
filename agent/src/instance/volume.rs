//! A data directory that vanished with its file system isn't made anew on another one (hazard E08).
//!
//! The run directory lies beside the data directory and vanishes with it. So where the file system was mounted is noted
//! in the store, once there is a copy. The note can only keep an order from being carried out.

use super::Local;
use primacy_core::instance::{Failure, Instance};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where a copy of the data was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    data_dir: PathBuf,
    mount_point: PathBuf,
}

impl Seen {
    /// Where its file system was mounted, if it isn't there any more. One that is mounted further down was put there
    /// by somebody.
    fn unmounted(&self, data_dir: &Path, now: &Path) -> Option<&Path> {
        let gone = self.data_dir == data_dir && self.mount_point != now && self.mount_point.starts_with(now);
        gone.then_some(&self.mount_point)
    }
}

impl Local {
    /// Notes where a copy is, or forgets it.
    pub(super) fn note_volume(&self, instance: &Instance) {
        let key = self.volume_key();
        if *instance == Instance::Absent {
            self.board.look().notes.remove(&key);
        }
        if instance.data().is_none() || self.board.look().notes.contains_key(&key) {
            return;
        }
        let data_dir = self.settings.postgres.data_dir.clone();
        match self.postgres.mount_point() {
            Ok(mount_point) => {
                let noted = serde_json::to_value(Seen { data_dir, mount_point }).unwrap_or_default();
                self.board.look().notes.insert(key, noted);
            }
            Err(error) => tracing::debug!(%error, "where the data lies isn't noted"),
        }
    }

    /// Whether a new copy would lie where the last one did.
    pub(super) fn check_volume(&self) -> Result<(), Failure> {
        let key = self.volume_key();
        let noted = self.directory.look().notes.get(&key).cloned();
        let Some(seen) = noted.and_then(|noted| serde_json::from_value::<Seen>(noted).ok()) else {
            return Ok(());
        };
        let now = self.postgres.mount_point().map_err(|error| Failure::Other(error.to_string().into()))?;
        let Some(gone) = seen.unmounted(&self.settings.postgres.data_dir, &now) else { return Ok(()) };
        let why = format!(
            "{} was on the file system at {}, where nothing is mounted now: mount it; or, to let this member make a new \
             copy on the file system at {}, remove the note (etcdctl del {}primacy/{key})",
            seen.data_dir.display(),
            gone.display(),
            now.display(),
            self.settings.prefix
        );
        Err(Failure::Other(why.into()))
    }

    fn volume_key(&self) -> String {
        format!("volumes/{}", self.settings.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_system_that_is_gone_from_above_the_data_is_missed() {
        let seen = Seen { data_dir: "/mnt/vol/pg/data".into(), mount_point: "/mnt/vol".into() };
        let unmounted = |data_dir: &str, now: &str| seen.unmounted(Path::new(data_dir), Path::new(now));
        assert_eq!(unmounted("/mnt/vol/pg/data", "/"), Some(Path::new("/mnt/vol")));
        assert_eq!(unmounted("/mnt/vol/pg/data", "/mnt"), Some(Path::new("/mnt/vol")));
        assert_eq!(unmounted("/mnt/vol/pg/data", "/mnt/vol"), None);
        assert_eq!(unmounted("/mnt/vol/pg/data", "/mnt/vol/pg"), None, "a new one below");
        assert_eq!(unmounted("/srv/data", "/"), None, "the member lives elsewhere now");
    }
}
