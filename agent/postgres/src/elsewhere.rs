//! What a data directory has elsewhere: its tablespaces, and its WAL where `pg_wal` is a link.
//!
//! A new copy wants its tablespaces where the source has them, and PostgreSQL's programs take only empty places. So
//! they go aside with the copy that they belong to, and what an unfinished copy has put there is cleared away with it.
//!
//! They are moved once the data directory is under its new name, as its manifest says: until then nothing has changed,
//! and from then on nobody can start it half. Who is interrupted is made up for before the next copy. A link leads to
//! its old place until its part is moved, so it tells what is still to be done.

use crate::aside::{Manifest, count, rename_to_new};
use crate::volume::is_mount_point;
use crate::{Error, Instant, Postgres, Upstream, files};
use rustix::fs::{Access, access};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the links to tablespaces are.
const TABLESPACES: &str = "pg_tblspc";

/// How the one folder begins that PostgreSQL makes in the place of a tablespace.
const OF_POSTGRESQL: &str = "PG_";

/// A source that is well answers at once.
const ASK: Duration = Duration::from_secs(5);

const QUESTION: &str = "\
SELECT coalesce(json_agg(pg_tablespace_location(oid)), '[]') FROM pg_tablespace
 WHERE pg_tablespace_location(oid) LIKE '/%'";

/// A part of a copy that was moved aside, outside of its data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The link in the data directory that leads to it.
    pub link: PathBuf,
    /// Where it was.
    pub from: PathBuf,
    /// Where it is.
    pub to: PathBuf,
    /// Bytes on disk; none if they couldn't be counted in time.
    pub bytes: Option<u64>,
}

impl Postgres {
    /// Where the source has tablespaces. A place that isn't empty here is refused before the source begins a copy.
    pub(crate) async fn places_for(&self, source: &Upstream, by: Instant) -> Result<Vec<PathBuf>, Error> {
        let by = by.min(Instant::now() + ASK);
        let places = match self.row_from(source, "ask the source for its tablespaces", QUESTION, by).await {
            Ok(row) => {
                row.first().and_then(Option::as_deref).and_then(|text| serde_json::from_str(text).ok())
            }
            // The copy needs no user that may connect to a database.
            Err(error) => {
                tracing::warn!(%error, "a copy that fails may leave its tablespaces where they are");
                None
            }
        };
        let places: Vec<PathBuf> = places.unwrap_or_default();
        for place in &places {
            if !is_empty(place)? {
                return Err(Error::Unfit(format!(
                    "the source has a tablespace at {0}, and {0} is not empty here: move away what is there",
                    place.display()
                )));
            }
        }
        Ok(places)
    }

    /// Moves what is still in its old place of copies that were moved aside.
    pub(crate) fn finish_moving(&self) -> Result<(), Error> {
        self.find_asides()?.copies.iter().try_for_each(|copy| move_parts(&copy.path, &copy.manifest))
    }
}

/// The links out of a data directory, each with the place it leads to. None for a link that leads nowhere.
fn links(dir: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let mut links = vec![PathBuf::from("pg_wal")];
    let folder = dir.join(TABLESPACES);
    match fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
        Ok(entries) => {
            links.extend(entries.iter().map(|entry| Path::new(TABLESPACES).join(entry.file_name())));
        }
        Err(none) if matches!(none.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(why) => return Err(Error::Io { what: format!("read {}", folder.display()), why }),
    }
    links.sort();
    let mut found = Vec::new();
    for link in links {
        let path = dir.join(&link);
        if !path.is_symlink() {
            continue;
        }
        match path.canonicalize() {
            Ok(place) => found.push((link, place)),
            Err(none) if none.kind() == ErrorKind::NotFound => {}
            Err(why) => return Err(Error::Io { what: format!("follow {}", path.display()), why }),
        }
    }
    Ok(found)
}

/// What has to be moved with this data directory, and can be. WAL that can't be moved stays: it is in nobody's way.
pub(crate) fn movable(dir: &Path) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    let mut parts = Vec::new();
    let within = dir.canonicalize().map_err(Error::io(format!("look at {}", dir.display())))?;
    for (link, place) in links(dir)? {
        if place.starts_with(&within) || is_empty(&place)? {
            continue;
        }
        match why_not(&link, &place)? {
            None => parts.push((link, place)),
            Some(why) if link.starts_with(TABLESPACES) => {
                return Err(Error::Unfit(format!(
                    "{} has a tablespace at {}, which can't be moved aside: {why}. Nothing was moved",
                    dir.display(),
                    place.display()
                )));
            }
            Some(why) => tracing::warn!(place = %place.display(), why, "WAL stays where it is"),
        }
    }
    Ok(parts)
}

/// Why a part can't be moved, and what to do about it.
fn why_not(link: &Path, place: &Path) -> Result<Option<String>, Error> {
    const BY_HAND: &str = "move what is in it to another place yourself";
    if is_mount_point(place)? {
        return Ok(Some(format!("it is a mount point; {BY_HAND}, and use a folder below it from now on")));
    }
    let above = place.parent().unwrap_or(place);
    if access(above, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let above = above.display();
        return Ok(Some(format!("{above} can't be written; let this user write it, or {BY_HAND}")));
    }
    let foreign = names(place)?.into_iter().find(|name| !name.starts_with(OF_POSTGRESQL));
    let foreign = foreign.filter(|_| link.starts_with(TABLESPACES));
    Ok(foreign.map(|name| format!("{name} in it is no part of a tablespace; move that away")))
}

/// Where a part goes with the copy of this number: beside its place, on the same file system.
pub(crate) fn moved(place: &Path, number: u64) -> PathBuf {
    let mut name = place.as_os_str().to_owned();
    name.push(format!(".aside-{number}"));
    PathBuf::from(name)
}

/// As they are written down before anything is moved.
pub(crate) async fn parts(found: Vec<(PathBuf, PathBuf)>, number: u64, by: Instant) -> Vec<Part> {
    let mut parts = Vec::new();
    for (link, from) in found {
        let (to, bytes) = (moved(&from, number), count(from.clone(), by).await);
        parts.push(Part { link, from, to, bytes });
    }
    parts
}

/// Moves each part of a copy that isn't in its new place yet, and has its link lead there.
pub(crate) fn move_parts(copy: &Path, manifest: &Manifest) -> Result<(), Error> {
    for part in &manifest.elsewhere {
        let link = copy.join(&part.link);
        if fs::read_link(&link).is_ok_and(|leads| leads == part.to) {
            continue;
        }
        if !files::is_there(&part.to)? {
            if !files::is_there(&part.from)? {
                // Somebody took it away.
                continue;
            }
            rename_to_new(&part.from, &part.to).map_err(Error::io(format!(
                "move {} to {}",
                part.from.display(),
                part.to.display()
            )))?;
            tracing::warn!(from = %part.from.display(), to = %part.to.display(), "moved a part of it, too");
            files::sync_parent(&part.to)?;
        }
        let new = copy.join("primacy-link.new");
        files::remove(&new)?;
        let led = symlink(&part.to, &new).and_then(|()| fs::rename(&new, &link));
        led.map_err(Error::io(format!("have {} lead to {}", link.display(), part.to.display())))?;
        files::sync_parent(&link)?;
    }
    Ok(())
}

/// Removes what an unfinished copy has put elsewhere: into the places noted when it was begun, which were empty, and
/// where its links lead.
pub(crate) fn clear(copy: &Path, noted: &[PathBuf]) -> io::Result<()> {
    for place in noted {
        empty(place, OF_POSTGRESQL)?;
    }
    for (link, place) in links(copy).map_err(io::Error::other)? {
        empty(&place, if link.starts_with(TABLESPACES) { OF_POSTGRESQL } else { "" })?;
    }
    Ok(())
}

/// Removes what begins so in a folder; the folder itself may be one of the user's.
fn empty(folder: &Path, prefix: &str) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(none) if none.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(Error::io(format!("read {}", folder.display())))?;
    Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// Whether there is nothing in it, or no such folder at all.
pub(crate) fn is_empty(dir: &Path) -> Result<bool, Error> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
        // A file lies there, and not ours.
        Err(e) if e.kind() == ErrorKind::NotADirectory => Ok(false),
        Err(e) => Err(Error::Io { what: format!("read {}", dir.display()), why: e }),
    }
}
