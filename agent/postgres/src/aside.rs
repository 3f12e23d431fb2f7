//! Copies of the data that were moved aside, each with a manifest beside it. Nothing is deleted here.
//!
//! | name | what |
//! |---|---|
//! | `DATA_DIR.aside-SECONDS` | the copy, untouched; SECONDS since 1970, or the number behind the highest one there |
//! | `DATA_DIR.aside-SECONDS.json` | its manifest, durable before the copy gets this name |
//! | `TABLESPACE.aside-SECONDS` | a tablespace of it, beside its old place |
//!
//! A crash between the two steps leaves a manifest without a copy, and the copy in its place: it is moved aside under
//! another name then. A copy without a manifest that can be read is nobody's to remove but a person's.

use crate::data::beside;
use crate::elsewhere::{Part, movable, move_parts, moved, parts};
use crate::retention::Stop;
use crate::{Error, Instant, Loss, Position, Postgres, files};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::spawn_blocking;

/// How long its bytes are counted at most: the order that wants it out of the way has other things to do.
const COUNTING: Duration = Duration::from_secs(5);

/// A number above this was given by nobody here.
const NUMBER_MAX: u64 = 1 << 48;

/// What is known of a copy that is moved aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Aside {
    /// Why, in words.
    pub why: String,
    /// When, in words: RFC 3339, UTC.
    pub at: String,
    /// The member.
    pub member: String,
    /// The system identifier, as text: it has more digits than a number in JSON may have.
    pub system_id: Option<String>,
    /// The reigns whose WAL it holds, oldest first, each with its timeline and its mark.
    pub lineage: Vec<String>,
    /// Where it left the elected history.
    pub left_at: Option<Position>,
    /// Where its own WAL ends.
    pub end: Option<Position>,
    /// What was lost with it.
    pub loss: Option<Loss>,
}

/// What lies beside a copy that was moved aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Where it was.
    pub from: PathBuf,
    /// Bytes on disk; none if they couldn't be counted in time.
    pub bytes: Option<u64>,
    /// What of it lies elsewhere.
    #[serde(default)]
    pub elsewhere: Vec<Part>,
    /// When it was moved, by a clock that nobody sets.
    pub boot: Option<Uptime>,
    /// See [`Aside`].
    #[serde(flatten)]
    pub aside: Aside,
}

/// A time by the clock that runs from the boot of the host on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    /// The boot.
    pub id: String,
    /// Seconds since then.
    pub seconds: u64,
}

impl Uptime {
    /// None if the boot can't be told from others.
    fn now() -> Option<Uptime> {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        let seconds = u64::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or(0);
        (!id.is_empty()).then_some(Uptime { id, seconds })
    }
}

/// A copy that was moved aside, as it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Where it is.
    pub path: PathBuf,
    /// When it was moved there, in seconds since 1970 as far as the clock was right. In any case the order is right.
    pub seconds: u64,
    /// See [`Manifest`].
    pub manifest: Manifest,
}

impl SetAside {
    /// How old it is, and how old it is at least, however the clock was set meanwhile.
    pub(crate) fn ages(&self) -> (Duration, Duration) {
        let by_the_wall = Duration::from_secs(unix_seconds().saturating_sub(self.seconds));
        match (&self.manifest.boot, Uptime::now()) {
            (Some(then), Some(now)) if then.id == now.id => {
                let age = Duration::from_secs(now.seconds.saturating_sub(then.seconds));
                (age, age)
            }
            (Some(_), Some(now)) => {
                let up = Duration::from_secs(now.seconds);
                (by_the_wall.max(up), up)
            }
            (_, _) => (by_the_wall, by_the_wall),
        }
    }
}

/// All that lies beside the data directory under such names.
#[derive(Debug, Default)]
pub(crate) struct Asides {
    /// Whole ones, oldest first.
    pub copies: Vec<SetAside>,
    /// What is not as it should be, in words.
    pub odd: Vec<String>,
}

impl Postgres {
    /// Moves the data directory aside, with a manifest of why and when, and with its tablespaces. No process works in
    /// it any more.
    ///
    /// # Errors
    /// If it can't be renamed, or a tablespace can't be moved; it is in its place then. If a tablespace could not be
    /// moved though it looked as if it could; it is moved before the next copy then, or that fails.
    pub async fn set_aside(&self, aside: &Aside, by: Instant) -> Result<PathBuf, Error> {
        let dir = &self.settings.data_dir;
        if !files::is_there(dir)? {
            return Err(Error::Unfit(format!("there is no {}", dir.display())));
        }
        let found = movable(dir)?;
        let counted = by.min(Instant::now() + COUNTING);
        let bytes = count(dir.clone(), counted).await;
        let (path, number) = self.free_name(&found)?;
        let elsewhere = parts(found, number, counted).await;
        let manifest =
            Manifest { from: dir.clone(), bytes, elsewhere, boot: Uptime::now(), aside: aside.clone() };
        let text = serde_json::to_vec_pretty(&manifest)
            .map_err(|why| Error::Io { what: "write a manifest".to_owned(), why: why.into() })?;
        files::replace(&manifest_of(&path), &text)?;
        rename_to_new(dir, &path).map_err(Error::io(format!("move {} aside", dir.display())))?;
        files::sync_parent(dir)?;
        move_parts(&path, &manifest)?;
        Ok(path)
    }

    /// The copies that were moved aside and have their manifest, oldest first.
    ///
    /// # Errors
    /// If the folder that holds them can't be read.
    pub fn asides(&self) -> Result<Vec<SetAside>, Error> {
        self.find_asides().map(|found| found.copies)
    }

    /// A name under which there is neither a copy nor a manifest, and nothing is being removed. Its number is above all
    /// that are there: clocks may go back, and the newest copy is to be known.
    fn free_name(&self, parts: &[(PathBuf, PathBuf)]) -> Result<(PathBuf, u64), Error> {
        let (parent, prefix) = beside(&self.settings.data_dir, ".aside-")?;
        let (_, doomed) = beside(&self.settings.data_dir, ".removing-")?;
        // A link that leads nowhere is something, too.
        let is_taken = |path: &Path| fs::symlink_metadata(path).is_ok();
        let names = names_in(&parent)?;
        let highest = names.iter().filter_map(|name| {
            let name = name.to_str()?;
            let number = name.strip_prefix(&prefix).or_else(|| name.strip_prefix(&doomed))?;
            let number: u64 = number.trim_end_matches(".json").parse().ok()?;
            (number < NUMBER_MAX).then_some(number + 1)
        });
        let highest = highest.max().unwrap_or(0);
        for number in unix_seconds().max(highest).. {
            let path = parent.join(format!("{prefix}{number}"));
            let gone = parent.join(format!("{doomed}{number}"));
            let is_part_taken = parts.iter().any(|(_, place)| is_taken(&moved(place, number)));
            let is_one_taken = |path: &PathBuf| is_taken(path) || is_taken(&manifest_of(path));
            if ![&path, &gone].into_iter().any(is_one_taken) && !is_part_taken {
                return Ok((path, number));
            }
        }
        Err(Error::Unfit(format!("there is no free name beside {}", self.settings.data_dir.display())))
    }

    pub(crate) fn find_asides(&self) -> Result<Asides, Error> {
        let (parent, prefix) = beside(&self.settings.data_dir, ".aside-")?;
        let mut found = Asides::default();
        let mut names = names_in(&parent)?;
        names.sort();
        for name in names.iter().filter_map(|name| name.to_str()?.strip_prefix(&prefix)) {
            let path = parent.join(format!("{prefix}{name}"));
            match name.strip_suffix(".json") {
                Some(copy) if !parent.join(format!("{prefix}{copy}")).exists() => found.odd.push(format!(
                    "{} describes a copy that isn't there: it was never moved aside, or somebody took it away",
                    path.display()
                )),
                Some(_) => {}
                None => match read_manifest(&path, name) {
                    Ok(copy) => found.copies.push(copy),
                    Err(why) => found
                        .odd
                        .push(format!("{} is kept for ever, as {why}: look at it yourself", path.display())),
                },
            }
        }
        found.copies.sort_by_key(|copy| copy.seconds);
        Ok(found)
    }
}

fn read_manifest(path: &Path, name: &str) -> Result<SetAside, String> {
    let seconds = name.parse().map_err(|_| "its name tells no time".to_owned())?;
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        return Err("it is no folder".to_owned());
    }
    let manifest = manifest_in(&manifest_of(path))?;
    Ok(SetAside { path: path.to_owned(), seconds, manifest })
}

/// The manifest in this file.
pub(crate) fn manifest_in(path: &Path) -> Result<Manifest, String> {
    match files::read(path) {
        Ok(Some(text)) => {
            serde_json::from_str(&text).map_err(|why| format!("{} makes no sense: {why}", path.display()))
        }
        Ok(None) => Err("it has no manifest".to_owned()),
        Err(why) => Err(why.to_string()),
    }
}

pub(crate) fn manifest_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    PathBuf::from(name)
}

pub(crate) fn names_in(folder: &Path) -> Result<Vec<OsString>, Error> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(Error::io(format!("read {}", folder.display())))?;
    Ok(entries.iter().map(fs::DirEntry::file_name).collect())
}

pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Renames, and never over something that is there.
pub(crate) fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can do it. That nothing is there was looked at before, and only one agent runs.
        Err(Errno::INVAL | Errno::NOSYS) if !to.exists() => fs::rename(from, to),
        done => done.map_err(io::Error::from),
    }
}

/// The bytes that a folder takes on disk, if they can be counted until then.
pub(crate) async fn count(folder: PathBuf, by: Instant) -> Option<u64> {
    let stop = Stop::default();
    let stopped = stop.flag();
    spawn_blocking(move || bytes_in(&folder, &|| stopped() || Instant::now() >= by)).await.ok()?
}

fn bytes_in(folder: &Path, is_over: &impl Fn() -> bool) -> Option<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder).ok()? {
        let entry = entry.ok()?;
        if is_over() {
            return None;
        }
        // A link counts for itself: what it leads to stays where it is.
        let found = entry.metadata().ok()?;
        bytes += found.blocks() * 512;
        if found.is_dir() {
            bytes += bytes_in(&entry.path(), is_over)?;
        }
    }
    Some(bytes)
}
