//! Brings a data directory back that has left the elected history: `pg_rewind`, and what it takes before and after.
//!
//! `pg_rewind` compares what was changed since the histories parted, and copies just that. It wants its target at rest
//! in order, so recovery comes first, in single-user mode: with nobody connected, and on the timeline that is there. So
//! it also replays what a standby had received and not replayed yet, and leaves a checkpoint behind it. Without that
//! `pg_rewind` sees neither that such a standby was ahead (hazard C17), nor the last timeline it had followed.
//!
//! What comes from the source is its files, as they are: also its configuration and what describes its copy of the
//! data. None of that stays.

use crate::config::{BASE, REWIND_CALLS, literal};
use crate::control::shown;
use crate::control::{Control, parse_lsn};
use crate::data::{IDENTITY, beside, hear_copied};
use crate::progress::parted;
use crate::retention::Stop;
use crate::tools::Program;
use crate::wal::segment_name;
use crate::{Error, Instant, Position, Postgres, Settings, Upstream, files, leftovers};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::spawn_blocking;

/// What users write into a data directory by way of PostgreSQL. `pg_rewind` would bring the source's.
const OWN: [&str; 3] = [BASE, "postgresql.auto.conf", "pg_ident.conf"];

/// What else it brings, and describes the source.
const INHERITED: [&str; 5] =
    [IDENTITY, "postmaster.pid", "postmaster.opts", "recovery.signal", "primacy-aside.json"];

/// So much is copied between two looks at whether that is over.
const PIECE: usize = 1 << 20;

/// Where WAL is fetched to, in the folder of the WAL.
const FETCHED: &str = "primacy-fetched";

impl Postgres {
    /// Kills what a dead agent has left at work on the data directory that is there; a server is left alone. Before this
    /// nothing else may be done with the directory.
    ///
    /// # Errors
    /// If something is left at the deadline.
    pub async fn end_leftovers(&self, by: Instant) -> Result<(), Error> {
        leftovers::kill_tools(&self.settings.data_dir, by).await?;
        leftovers::kill_tools(&self.settings.wal_dir().join(FETCHED), by).await
    }

    /// Brings the data directory back to the history of a primary that writes this timeline, to be started as a standby.
    /// PostgreSQL is down, in whatever way it went down.
    ///
    /// Afterwards nothing describes this copy of the data: the identity is to be set anew. WAL that wasn't archived yet
    /// is kept in the folder that [`Postgres::unarchived_dir`] names.
    ///
    /// # Errors
    /// [`Error::Unrewindable`] says that only another copy helps. After any other error the data are still its own, at
    /// most recovered to their end, and it can be tried again. If this is dropped, or its process dies, nobody knows.
    pub async fn rewind(&self, source: &Upstream, timeline: u32, by: Instant) -> Result<(), Error> {
        self.end_leftovers(by).await?;
        if self.postmaster().is_some() {
            return Err(Error::Unfit("PostgreSQL runs".to_owned()));
        }
        let settings = &self.settings;
        let mut control = settings.control(by).await?;
        settings.check_target(&control)?;
        settings.write_passfile()?;
        settings.ask_source(source, &control, by).await?;
        self.keep_unarchived(by).await?;
        if !control.at_rest {
            self.recover(by).await?;
            control = settings.control(by).await?;
            self.keep_unarchived(by).await?;
        }
        // Recovery may have taken long.
        let before = settings.ask_source(source, &control, by).await?;
        if before.timeline != timeline {
            let other = format!("the source is on timeline {} instead of {timeline}", before.timeline);
            return Err(Error::Unfit(other));
        }
        if before.timeline == control.checkpoint.timeline {
            let same = format!("its source is on timeline {}, too", control.checkpoint.timeline);
            return Err(Error::Unrewindable(same));
        }
        let own = settings.own_files()?;
        if self.run_pg_rewind(source, &control, by).await? {
            self.fetch_wal(source, before, by).await.map_err(in_pieces)?;
        }
        self.make_ours(&own).await.map_err(in_pieces)
    }

    /// Recovers to the end of the WAL that is there. Afterwards it is at rest as a primary, but for the signal.
    async fn recover(&self, by: Instant) -> Result<(), Error> {
        let dir = &self.settings.data_dir;
        // Nothing of it runs, so whatever this file says is of the past; PostgreSQL would respect a reused number.
        files::remove(&dir.join("postmaster.pid"))?;
        let _signal = Lifted::lift(dir.join("standby.signal"))?;
        // The checkpoints at its end would remove the WAL from where the histories parted.
        let single = self.settings.program("postgres").args(["--single", "-c", "wal_keep_size=1000TB"]);
        let single = single.arg("-D").arg(dir).arg("template1");
        let mut work = self.begin("recover to the end of the WAL");
        let ended = single.watch(&mut work, by, |_, _| false).await?;
        if ended.succeeded { Ok(()) } else { Err(Error::Unrewindable(ended.into_error().to_string())) }
    }

    /// Copies WAL that wasn't archived yet: `pg_rewind` would delete it, and nobody else may have it (hazard C08). A
    /// standby wouldn't archive it either, and removes it in time. So it lies beside the data directory, for good.
    async fn keep_unarchived(&self, by: Instant) -> Result<(), Error> {
        let (wal, kept) = (self.settings.wal_dir(), self.unarchived_dir()?);
        clear_unfinished(&kept)?;
        let names = unarchived(&wal.join("archive_status"))?;
        let mut work = self.begin("keep WAL that is not archived");
        for name in names {
            let (from, to) = (wal.join(&name), kept.join(&name));
            // Of one name there is but one content, once it is complete.
            if !files::is_there(&from)? || files::is_there(&to)? {
                continue;
            }
            if Instant::now() >= by {
                return Err(Error::TimedOut(work.what()));
            }
            tracing::warn!(name, kept = %kept.display(), "keeps WAL that is not archived");
            let stop = Stop::default();
            let stopped = stop.flag();
            let copied =
                spawn_blocking(move || copy(&from, &to, &|| stopped() || Instant::now() >= by)).await;
            let bytes = copied.unwrap_or_else(|panic| Err(Error::io("keep WAL")(panic.into())))?;
            let bytes = bytes.ok_or(Error::TimedOut(work.what()))?;
            work.tell(|progress| progress.done_bytes += bytes);
        }
        Ok(())
    }

    /// Where WAL is kept that was not archived before a rewind.
    ///
    /// # Errors
    /// If the data directory is at no place that has anything beside it.
    pub fn unarchived_dir(&self) -> Result<PathBuf, Error> {
        let (parent, name) = beside(&self.settings.data_dir, ".unarchived")?;
        Ok(parent.join(name))
    }

    /// Says whether anything was changed.
    async fn run_pg_rewind(&self, source: &Upstream, control: &Control, by: Instant) -> Result<bool, Error> {
        let rewind = self.settings.program("pg_rewind").arg("-D").arg(&self.settings.data_dir);
        let rewind = rewind.args(["--progress", "--no-ensure-shutdown", "--source-server"]);
        let rewind = rewind.arg(self.settings.rewind_conninfo(source));
        let mut work = self.begin("rewind");
        let (mut reads, mut changes) = (false, false);
        let ended = rewind.watch(&mut work, by, |line, work| {
            reads |= line.contains("reading WAL in target");
            changes |= line.contains("need to copy");
            if let Some(lsn) = parted(line) {
                work.tell(|progress| progress.position = Some(lsn));
            }
            let copied = hear_copied(line, work);
            changes |= copied;
            copied
        });
        match ended.await {
            Ok(ended) if ended.succeeded => Ok(changes),
            Ok(ended) if changes => Err(in_pieces(ended.into_error())),
            Ok(ended) => {
                let why = ended.into_error();
                // If the source can still be asked, it isn't the source.
                self.settings.ask_source(source, control, by).await?;
                Err(Error::Unrewindable(why.to_string()))
            }
            // It was killed, and what it said last may not have been read.
            Err(why) if reads => Err(in_pieces(why)),
            Err(why) => Err(why),
        }
    }

    /// Fetches the WAL that the source has written meanwhile: `pg_rewind` copies each segment as it is at some time, and
    /// what it copied later is consistent only behind that. So it comes up without a source, as a copy does.
    ///
    /// The source has to keep its WAL for as long as all this takes, by a slot or by `wal_keep_size`.
    async fn fetch_wal(&self, source: &Upstream, from: Position, by: Instant) -> Result<(), Error> {
        let (settings, folder) = (&self.settings, self.settings.wal_dir().join(FETCHED));
        let control = settings.control(by).await?;
        // The end may lie behind the header of a page that has no record yet.
        settings.psql(source, "SELECT pg_logical_emit_message(true, 'primacy', 'rewound')", by).await?;
        // The source may have one of its own, of a rewind that it never finished.
        drop(fs::remove_dir_all(&folder));
        DirBuilder::new().mode(0o700).create(&folder).map_err(Error::io("make a folder for WAL"))?;
        // It goes on behind the last whole segment that it finds.
        let before = from.lsn.saturating_sub(control.segment);
        let seed = folder.join(segment_name(from.timeline, before, control.segment));
        let seeded = File::create(&seed).and_then(|file| file.set_len(control.segment));
        seeded.map_err(Error::io("say where the WAL begins"))?;
        let receive = settings.program("pg_receivewal").arg("-D").arg(&folder);
        let receive =
            receive.args(["--no-loop", "--no-password", "--endpos", &shown(control.recovery_end.lsn)]);
        let application = format!("{} is rewound", settings.name);
        let receive =
            receive.arg("-d").arg(settings.conninfo_of(&settings.replication, &application, source));
        let mut work = self.begin("fetch the WAL written meanwhile");
        receive.watch(&mut work, by, |_, _| false).await?.success()?;
        files::remove(&seed)?;
        self.take_fetched(&folder)
    }

    fn take_fetched(&self, folder: &Path) -> Result<(), Error> {
        let failed = || Error::io("take the fetched WAL");
        for entry in fs::read_dir(folder).map_err(failed())? {
            let path = entry.map_err(failed())?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = name.trim_end_matches(".partial");
            fs::rename(&path, self.settings.wal_dir().join(name)).map_err(failed())?;
        }
        fs::remove_dir(folder).map_err(failed())?;
        files::sync_parent(folder)
    }

    /// Removes what describes the source, and puts back what is ours. The label that `pg_rewind` leaves is needed.
    async fn make_ours(&self, own: &BTreeMap<&str, Vec<u8>>) -> Result<(), Error> {
        let dir = &self.settings.data_dir;
        for inherited in INHERITED {
            files::remove(&dir.join(inherited))?;
        }
        for name in OWN {
            match own.get(name) {
                Some(content) => files::replace(&dir.join(name), content)?,
                None => files::remove(&dir.join(name))?,
            }
        }
        self.write_config().await?;
        files::replace(&dir.join("standby.signal"), b"")
    }
}

impl Settings {
    /// Fails if no rewind can ever bring it back.
    fn check_target(&self, control: &Control) -> Result<(), Error> {
        let not = |why: &str| Err(Error::Unrewindable(why.to_owned()));
        if !control.logs_hints {
            return not("it has run without wal_log_hints, and has no data checksums");
        }
        if !control.full_pages {
            return not("it has run without full_page_writes");
        }
        // Recovery would begin where the label says, which may be of any time (hazard C07).
        if files::is_there(&self.data_dir.join("backup_label"))? {
            return not("it is a copy that was never started");
        }
        Ok(())
    }

    /// What those hold that are there.
    fn own_files(&self) -> Result<BTreeMap<&'static str, Vec<u8>>, Error> {
        let mut own = BTreeMap::new();
        for name in OWN {
            match fs::read(self.data_dir.join(name)) {
                Ok(content) => drop(own.insert(name, content)),
                Err(why) if why.kind() == ErrorKind::NotFound => {}
                Err(why) => return Err(Error::Io { what: format!("read {name}"), why }),
            }
        }
        Ok(own)
    }

    /// Where the WAL of the source ends. Fails unless this directory can be rewound from it now.
    async fn ask_source(&self, source: &Upstream, own: &Control, by: Instant) -> Result<Position, Error> {
        let allowed =
            REWIND_CALLS.map(|call| format!("has_function_privilege({}, 'EXECUTE')", literal(call)));
        let question = format!(
            "SELECT pg_is_in_recovery(), (SELECT system_identifier FROM pg_control_system()), \
             (SELECT timeline_id FROM pg_control_checkpoint()), \
             CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END, \
             CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_flush_lsn() END, {}",
            allowed.join(" AND ")
        );
        let said = self.psql(source, &question, by).await?;
        judge(&said, own)
    }

    async fn psql(&self, source: &Upstream, question: &str, by: Instant) -> Result<String, Error> {
        let psql: Program = self.program("psql").args(["-X", "-A", "-t", "-q", "--no-password"]);
        let psql = psql.arg("-d").arg(self.rewind_conninfo(source));
        // It answers at once, or is frozen.
        let by = by.min(Instant::now() + self.stall);
        psql.args(["-c", "SET synchronous_commit = local", "-c", question]).run(by).await
    }

    fn rewind_conninfo(&self, source: &Upstream) -> String {
        self.conninfo_of(&self.rewind, &self.name, source) + " dbname='postgres'"
    }
}

/// What the source says of itself: a line of fields. The end of its WAL, if it may be rewound from.
fn judge(said: &str, own: &Control) -> Result<Position, Error> {
    let unfit = |why: &str| Error::Unfit(format!("can't be rewound from there: {why}"));
    let fields: Vec<&str> = said.trim().split('|').collect();
    let [in_recovery, system_id, checkpoint, timeline, lsn, allowed] = fields[..] else {
        return Err(unfit("it says something unknown about itself"));
    };
    if in_recovery != "f" {
        return Err(unfit("it is in recovery"));
    }
    if system_id.parse::<i64>().ok().map(i64::cast_unsigned) != Some(own.system_id) {
        return Err(unfit(&format!("its system identifier is {system_id}, not {}", own.system_id)));
    }
    let timeline = u32::from_str_radix(timeline, 16).ok();
    let position = timeline.zip(parse_lsn(lsn)).map(|(timeline, lsn)| Position { timeline, lsn });
    let position = position.ok_or_else(|| unfit("it says something unknown about itself"))?;
    if checkpoint.parse() != Ok(position.timeline) {
        return Err(unfit(&format!("it has no checkpoint on timeline {} yet", position.timeline)));
    }
    if allowed != "t" {
        let calls = REWIND_CALLS.join(", ");
        return Err(unfit(&format!(
            "the rewind user may not read files there. On the primary: GRANT EXECUTE ON FUNCTION {calls} TO it"
        )));
    }
    Ok(position)
}

/// From where it has begun to change files, it isn't whole before the end.
fn in_pieces(why: Error) -> Error {
    Error::Unrewindable(format!("it was begun and not finished: {why}"))
}

/// A file that is away for as long as this lives, and there afterwards: single-user mode refuses to start with
/// `standby.signal`, and without it a recovered directory would pass for that of a primary that was stopped in order.
struct Lifted(PathBuf);

impl Lifted {
    fn lift(path: PathBuf) -> Result<Lifted, Error> {
        files::remove(&path)?;
        Ok(Lifted(path))
    }
}

impl Drop for Lifted {
    fn drop(&mut self) {
        if let Err(error) = files::replace(&self.0, b"") {
            tracing::warn!(%error, "a file is not where it was");
        }
    }
}

/// What the archiver still has to archive, in order.
fn unarchived(status: &Path) -> Result<Vec<String>, Error> {
    let failed = || Error::io(format!("read {}", status.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(status).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(".ready")).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// What is copied has a name of this kind until it is whole.
const UNFINISHED: &str = ".primacy-new";

/// Copies a file durably, as a whole or not at all, into a folder that is made if need be. None once it is over.
fn copy(from: &Path, to: &Path, is_over: &impl Fn() -> bool) -> Result<Option<u64>, Error> {
    /// So that no two have the same name: one whose order was dropped may not have noticed yet.
    static COPIES: AtomicU64 = AtomicU64::new(0);
    let failed = || Error::io(format!("copy {} to {}", from.display(), to.display()));
    let folder = to.parent().unwrap_or(Path::new("/"));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed())?;
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!("{name}.{}-{number}{UNFINISHED}", std::process::id()));
    let bytes = copy_bytes(from, &beside, is_over).map_err(failed())?;
    if bytes.is_none() {
        files::remove(&beside)?;
        return Ok(None);
    }
    fs::rename(&beside, to).map_err(failed())?;
    files::sync_parent(to)?;
    files::sync_parent(folder)?;
    Ok(bytes)
}

fn copy_bytes(from: &Path, to: &Path, is_over: &impl Fn() -> bool) -> io::Result<Option<u64>> {
    let mut source = File::open(from)?;
    let mut target = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    let (mut piece, mut bytes) = (vec![0; PIECE], 0);
    loop {
        let read = source.read(&mut piece)?;
        if read == 0 {
            target.sync_all()?;
            return Ok(Some(bytes));
        }
        target.write_all(&piece[..read])?;
        bytes += read as u64;
        if is_over() {
            return Ok(None);
        }
    }
}

/// Removes what was being copied when an agent died, or an order was dropped.
fn clear_unfinished(folder: &Path) -> Result<(), Error> {
    let entries = match fs::read_dir(folder) {
        Err(none) if none.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io(format!("read {}", folder.display())))?,
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().ends_with(UNFINISHED) {
            files::remove(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn scratch(test: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("primacy-rewind-{}-{test}", std::process::id()));
        fs::create_dir_all(folder.join("kept")).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_copy_whose_order_was_dropped_is_in_no_other_s_way() {
        let folder = scratch("two");
        let (from, to) = (folder.join("wal"), folder.join("kept/wal"));
        let content: Vec<u8> = (0..3 * PIECE).map(|at| (at / 7) as u8).collect();
        fs::write(&from, &content).unwrap();
        // The next order's begins and ends while the first is half way.
        let second = Cell::new(false);
        let first = copy(&from, &to, &|| {
            if !second.replace(true) {
                assert_eq!(copy(&from, &to, &|| false).unwrap(), Some(content.len() as u64));
            }
            false
        });
        assert_eq!(first.unwrap(), Some(content.len() as u64));
        assert_eq!(fs::read(&to).unwrap(), content);
        assert_eq!(names(&folder.join("kept")), ["wal"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_not_whole_has_no_name_of_wal_and_goes_before_the_next_rewind() {
        let folder = scratch("over");
        let (from, kept) = (folder.join("wal"), folder.join("kept"));
        fs::write(&from, vec![1; 2 * PIECE]).unwrap();
        assert_eq!(copy(&from, &kept.join("wal"), &|| true).unwrap(), None);
        assert_eq!(names(&kept), Vec::<String>::new());
        // One whose agent was killed.
        fs::write(kept.join(format!("wal.1-2{UNFINISHED}")), "half").unwrap();
        fs::write(kept.join("00000001000000000000000A"), "whole").unwrap();
        clear_unfinished(&kept).unwrap();
        assert_eq!(names(&kept), ["00000001000000000000000A"]);
        clear_unfinished(&folder.join("none")).unwrap();
        fs::remove_dir_all(folder).unwrap();
    }
}
