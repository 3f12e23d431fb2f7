//! How long copies that were moved aside are kept, and how much room there is.
//!
//! A copy goes in steps, each of which may be the last before a crash; the next call goes on from there.
//!
//! 1. Its manifest becomes `DATA_DIR.removing-SECONDS.json`. From here on it is to go, whatever the rules say.
//! 2. It becomes `DATA_DIR.removing-SECONDS`, so that nobody takes what is left of it for a copy.
//! 3. What is in it is deleted, and what of it lies elsewhere.
//! 4. The manifest is deleted.

use crate::aside::{manifest_in, manifest_of, names_in, rename_to_new};
use crate::data::beside;
use crate::elsewhere::moved;
use crate::{Error, Instant, Postgres, SetAside, files};
use rustix::fs::statvfs;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::spawn_blocking;

/// Whatever the rules say, a copy is kept this long: somebody may be looking at it just now.
const AT_LEAST: Duration = Duration::from_secs(3_600);

/// Which copies that were moved aside are kept.
///
/// The newest `count` always are. An older one goes once it was there for `age`; or before, if there is less room than
/// a new copy needs. The newest, one that is there for less than an hour, and one without a manifest are never removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// So many are kept whatever their age; one at least.
    pub count: usize,
    /// Older ones go after this time.
    pub age: Duration,
    /// The bytes that a new copy needs. What the newest copy aside takes is needed in any case.
    pub min_free: u64,
}

impl Default for Keep {
    fn default() -> Keep {
        Keep { count: 3, age: Duration::from_secs(7 * 86_400), min_free: 0 }
    }
}

/// Room on the file system that holds the data directory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// For this user.
    pub free: u64,
    /// In all.
    pub total: u64,
}

/// What was done about the copies that were moved aside, and what a person should know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Those that are gone now.
    pub removed: Vec<PathBuf>,
    /// Those that are kept, oldest first.
    pub kept: Vec<SetAside>,
    /// What isn't as it should be, a sentence each.
    pub odd: Vec<String>,
    /// That a new copy would find no room, with what takes it; none if it would.
    pub short: Option<String>,
}

impl Postgres {
    /// The room on the file system that holds the data directory.
    ///
    /// # Errors
    /// If it isn't told.
    pub fn space(&self) -> Result<Space, Error> {
        let (parent, _) = beside(&self.settings.data_dir, "")?;
        let told = statvfs(&parent).map_err(io::Error::from);
        let told = told.map_err(Error::io(format!("ask for the room in {}", parent.display())))?;
        Ok(Space { free: told.f_bavail * told.f_frsize, total: told.f_blocks * told.f_frsize })
    }

    /// Why a copy of so many bytes would find no room here, in words; none if it would.
    ///
    /// # Errors
    /// If the room isn't told.
    pub fn short_of(&self, bytes: u64) -> Result<Option<String>, Error> {
        let free = self.space()?.free;
        if free >= bytes {
            return Ok(None);
        }
        let copies = self.asides()?;
        let shown = copies.iter().map(|copy| {
            let bytes =
                copy.manifest.bytes.map_or("size not counted".to_owned(), |bytes| Bytes(bytes).to_string());
            format!("{} ({bytes})", copy.path.display())
        });
        let shown: Vec<String> = shown.collect();
        let aside = if shown.is_empty() {
            "No copy lies aside that could make room".to_owned()
        } else {
            format!("Aside lie {}: remove what you don't need, or lower primacy.aside.keep", shown.join(", "))
        };
        let place = self.settings.data_dir.display();
        let (needed, free) = (Bytes(bytes), Bytes(free));
        Ok(Some(format!("a new copy at {place} needs {needed}, and there are {free}. {aside}")))
    }

    /// Removes the copies that need not be [kept](Keep) any more, and goes on with what an earlier call had begun.
    ///
    /// # Errors
    /// If something can't be read or removed, or not in time; what was removed until then is gone.
    pub async fn prune_aside(&self, keep: Keep, by: Instant) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        self.finish_moving()?;
        self.go_on_removing(&mut pruned, by).await?;
        let found = self.find_asides()?;
        pruned.odd.extend(found.odd);
        let needed = keep.min_free.max(found.copies.last().and_then(|copy| copy.manifest.bytes).unwrap_or(0));
        let newer = (1..=found.copies.len()).rev();
        for (copy, rank) in found.copies.into_iter().zip(newer) {
            let (age, at_least) = copy.ages();
            let is_due = rank > keep.count.max(1)
                && age.min(at_least) >= AT_LEAST
                && (age >= keep.age || self.space()?.free < needed);
            if is_due {
                self.condemn(&copy)?;
                self.go_on_removing(&mut pruned, by).await?;
            } else {
                pruned.kept.push(copy);
            }
        }
        pruned.short = self.short_of(needed)?;
        Ok(pruned)
    }

    /// The first step, after which there is no way back.
    fn condemn(&self, copy: &SetAside) -> Result<(), Error> {
        let (parent, prefix) = beside(&self.settings.data_dir, ".removing-")?;
        let to = manifest_of(&parent.join(format!("{prefix}{}", copy.seconds)));
        let what = || Error::io(format!("begin to remove {}", copy.path.display()));
        rename_to_new(&manifest_of(&copy.path), &to).map_err(what())?;
        files::sync_parent(&to)
    }

    /// The other steps, for all that are to go.
    async fn go_on_removing(&self, pruned: &mut Pruned, by: Instant) -> Result<(), Error> {
        let (parent, prefix) = beside(&self.settings.data_dir, ".removing-")?;
        let (_, aside) = beside(&self.settings.data_dir, ".aside-")?;
        let mut names = names_in(&parent)?;
        names.sort();
        for name in names.iter().filter_map(|name| name.to_str()?.strip_prefix(&prefix)) {
            let number = name.strip_suffix(".json");
            let doomed = parent.join(format!("{prefix}{}", number.unwrap_or(name)));
            let mark = manifest_of(&doomed);
            // It goes with its mark.
            let Some(number) = number.or_else(|| (!mark.exists()).then_some(name)) else { continue };
            let manifest = match manifest_in(&mark) {
                Ok(manifest) => manifest,
                Err(why) => {
                    pruned.odd.push(format!("{} is left alone: {why}", doomed.display()));
                    continue;
                }
            };
            let copy = parent.join(format!("{aside}{number}"));
            if copy.exists() && !doomed.exists() {
                let what = Error::io(format!("begin to remove {}", copy.display()));
                rename_to_new(&copy, &doomed).map_err(what)?;
                files::sync_parent(&doomed)?;
            }
            remove_all(doomed, by).await?;
            for part in manifest.elsewhere {
                // Under no other name was anything ever moved.
                if number.parse().is_ok_and(|number| part.to == moved(&part.from, number)) {
                    remove_all(part.to, by).await?;
                }
            }
            files::remove(&mark)?;
            pruned.removed.push(copy);
        }
        Ok(())
    }
}

/// Removes a folder off the loop; ends between two files once nobody waits for it, or at the deadline.
async fn remove_all(folder: PathBuf, by: Instant) -> Result<(), Error> {
    let stop = Stop::default();
    let stopped = stop.flag();
    let shown = folder.display().to_string();
    let removed = spawn_blocking(move || match fs::symlink_metadata(&folder) {
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(why) => Err(why),
        Ok(_) => remove_in(&folder, &|| stopped() || Instant::now() >= by),
    });
    match removed.await.unwrap_or_else(|panic| Err(panic.into())) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::TimedOut("remove a copy that was moved aside")),
        Err(why) => Err(Error::Io { what: format!("remove {shown}"), why }),
    }
}

/// Says whether it came to the end. A link goes, and what it leads to stays.
fn remove_in(folder: &Path, is_over: &impl Fn() -> bool) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if is_over() {
            return Ok(false);
        }
        if !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
        } else if !remove_in(&entry.path(), is_over)? {
            return Ok(false);
        }
    }
    fs::remove_dir(folder)?;
    Ok(true)
}

/// Work on another thread that is to end when nobody waits for it any more.
#[derive(Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    pub(crate) fn flag(&self) -> impl Fn() -> bool + Send + 'static {
        let flag = self.0.clone();
        move || flag.load(Ordering::Relaxed)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A number of bytes, for people.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
        let (mut shown, mut unit) = (self.0, "bytes");
        for larger in UNITS {
            if shown < 10_240 {
                break;
            }
            (shown, unit) = (shown >> 10, larger);
        }
        write!(f, "{shown} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn bytes_are_shown_in_a_unit_that_can_be_read() {
        let shown: Vec<String> =
            [0, 10_239, 10_240, 35_000, 20 << 20, u64::MAX].map(|n| Bytes(n).to_string()).into();
        assert_eq!(shown, ["0 bytes", "10239 bytes", "10 kB", "34 kB", "20 MB", "16777215 TB"]);
    }
}
