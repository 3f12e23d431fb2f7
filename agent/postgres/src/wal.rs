//! Where the WAL of a data directory ends, read from the files: with PostgreSQL down, or on a standby that can't say.
//!
//! What counts is the end of the last *complete* record. A figure below the truth would lose commits.

use crate::control::{Control, parse_lsn, shown};
use crate::tools::Program;
use crate::{Error, Instant, Position, Settings, files};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;

/// For each timeline of a history: the timeline before it, and where it left that one.
pub type Forks = BTreeMap<u32, Position>;

const PAGE: u64 = 8192;
/// Page headers: the first of a segment is longer.
const LONG_HEADER: u64 = 40;
const SHORT_HEADER: u64 = 24;

impl Settings {
    /// The end of the last complete record, on the last timeline that it goes on to.
    pub(crate) async fn wal_end(&self, control: &Control, by: Instant) -> Result<Position, Error> {
        let start = if control.clean { control.checkpoint } else { control.redo };
        self.wal_end_from(start, control.segment, by).await.map(|end| end.max(control.recovery_end))
    }

    /// The same, for the WAL from `start` on.
    pub(crate) async fn wal_end_from(
        &self,
        start: Position,
        segment: u64,
        by: Instant,
    ) -> Result<Position, Error> {
        let mut end = self.scan(start, segment, by).await?;
        while let Some((next, fork)) = self.next_timeline(end, segment)? {
            end = self.scan(Position { timeline: next, lsn: fork }, segment, by).await?;
        }
        Ok(end)
    }

    /// The end of the last complete record on this timeline, from `start` on.
    ///
    /// Only the last segment is read: that those before it are whole is known from its being there. Where a record
    /// spans whole segments none begins in the last, and further ones are read.
    async fn scan(&self, start: Position, segment: u64, by: Instant) -> Result<Position, Error> {
        let end = self.segments_end(start, segment)?;
        let (mut from, mut segments) = (end, 1);
        while from > start.lsn {
            from = end.saturating_sub(segments * segment).max(start.lsn);
            if let Some(lsn) = self.last_record(Position { lsn: from, ..start }, end, segment, by).await? {
                return Ok(Position { lsn, ..start });
            }
            segments *= 2;
        }
        Ok(start)
    }

    /// The end of the last complete record that begins at `from` or later; none if none does.
    async fn last_record(
        &self,
        from: Position,
        end: u64,
        segment: u64,
        by: Instant,
    ) -> Result<Option<u64>, Error> {
        // To print the records would take twenty times as long as to read them.
        let read = self.dump(from, end, segment).arg("--quiet").finish(by).await?;
        if let Some(last) = last_read(&read.err) {
            return self.last_printed(Position { lsn: last, ..from }, end, segment, by).await;
        }
        if !read.succeeded {
            let none = read.err.contains("could not find a valid record");
            return if none { Ok(None) } else { Err(read.into_error()) };
        }
        // All is complete, and full up to the end of the segment.
        let (mut at, mut pages) = (end, 1);
        while at > from.lsn {
            at = end.saturating_sub(pages * PAGE).max(from.lsn);
            if let Some(last) = self.last_printed(Position { lsn: at, ..from }, end, segment, by).await? {
                return Ok(Some(last));
            }
            pages *= 2;
        }
        Ok(None)
    }

    /// The same, from what is printed about each.
    async fn last_printed(
        &self,
        from: Position,
        end: u64,
        segment: u64,
        by: Instant,
    ) -> Result<Option<u64>, Error> {
        // Where the WAL ends within a segment, this ends with an error.
        let printed = self.dump(from, end, segment).finish(by).await?;
        Ok(printed.out.lines().rev().find_map(|line| record(line, segment)))
    }

    /// It would wait five seconds for a segment that isn't there, so it needs an end. And it learns from the segment that
    /// it is given how large they are: else from any that is there, which may be one made in advance, of zeros.
    pub(crate) fn dump(&self, from: Position, end: u64, segment: u64) -> Program {
        let dump = self.program("pg_waldump").arg("-p").arg(self.wal_dir());
        dump.args(["-t", &from.timeline.to_string(), "-s", &shown(from.lsn), "-e", &shown(end)])
            .arg(segment_name(from.timeline, from.lsn, segment))
            .arg(segment_name(from.timeline, end.saturating_sub(1), segment))
    }

    /// The end of the last segment of this timeline that has WAL in it, from that of `start` on.
    ///
    /// Segments are made in advance, of zeros or of old ones. A segment is synced before the next one is written to, by
    /// a primary and by a walreceiver: so those with WAL come first, without a gap, and halving finds the last.
    ///
    /// On a disk that lies about what is synced, WAL may begin again behind a tear, and the copy seems to go further
    /// than its recovery would. Then at worst it is taken for one that isn't contained in the elected history, and
    /// moved aside; it is never taken for one that holds less than it does. After an orderly stop the last segment is
    /// that of the shutdown checkpoint, which is where `start` is: its end is exact.
    fn segments_end(&self, start: Position, segment: u64) -> Result<u64, Error> {
        let names = self.wal_names()?;
        let there = |number: u64| names.contains(&segment_name(start.timeline, number * segment, segment));
        let mut written = start.lsn / segment;
        if !there(written) {
            return Ok(written * segment);
        }
        let mut beyond = written + 1;
        while there(beyond) {
            beyond += 1;
        }
        while written + 1 < beyond {
            let middle = written.midpoint(beyond);
            if self.has_wal(start.timeline, middle * segment, segment)? {
                written = middle;
            } else {
                beyond = middle;
            }
        }
        Ok(beyond * segment)
    }

    /// Whether the segment's first page says that it is just this one. In one that was made of an old one it bears the
    /// old address, or belongs to the timeline before.
    fn has_wal(&self, timeline: u32, lsn: u64, segment: u64) -> Result<bool, Error> {
        let path = self.wal_dir().join(segment_name(timeline, lsn, segment));
        let (mut magic_and_flags, mut owner, mut address) = ([0; 4], [0; 4], [0; 8]);
        let read = File::open(&path).and_then(|mut file| {
            file.read_exact(&mut magic_and_flags)?;
            file.read_exact(&mut owner)?;
            file.read_exact(&mut address)
        });
        read.map_err(Error::io(format!("read {}", path.display())))?;
        Ok(u32::from_ne_bytes(owner) == timeline && u64::from_ne_bytes(address) == lsn)
    }

    /// A timeline that left this one at or before its end, and of which there is WAL, and where it did. The highest, if
    /// there are more.
    fn next_timeline(&self, end: Position, segment: u64) -> Result<Option<(u32, u64)>, Error> {
        for child in self.histories()?.into_iter().rev().filter(|timeline| *timeline > end.timeline) {
            let fork = self.forks(child)?.get(&child).copied();
            if let Some(fork) = fork.filter(|fork| fork.timeline == end.timeline && fork.lsn <= end.lsn)
                && self.has_segment(child, fork.lsn, segment)?
            {
                return Ok(Some((child, fork.lsn)));
            }
        }
        Ok(None)
    }

    /// The timeline of the byte before `lsn`: the highest that has a segment there and had begun before it.
    pub(crate) fn timeline_at(&self, lsn: u64, segment: u64) -> Result<u32, Error> {
        let wanted = segment_suffix(lsn.saturating_sub(1), segment);
        for name in self.wal_names()?.iter().rev() {
            let Some((timeline, _)) = name.split_at_checked(8).filter(|(_, rest)| *rest == wanted) else {
                continue;
            };
            let Ok(timeline) = u32::from_str_radix(timeline, 16) else { continue };
            if self.forks(timeline)?.get(&timeline).is_none_or(|fork| fork.lsn < lsn) {
                return Ok(timeline);
            }
        }
        Err(Error::Unfit(format!("there is no WAL before {}", shown(lsn))))
    }

    pub(crate) fn has_segment(&self, timeline: u32, lsn: u64, segment: u64) -> Result<bool, Error> {
        files::is_there(&self.wal_dir().join(segment_name(timeline, lsn, segment)))
    }

    pub(crate) fn wal_dir(&self) -> PathBuf {
        self.data_dir.join("pg_wal")
    }

    /// What lies there, by name.
    fn wal_names(&self) -> Result<BTreeSet<String>, Error> {
        let dir = self.wal_dir();
        let entries = fs::read_dir(&dir).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries.map_err(Error::io(format!("read {}", dir.display())))?;
        Ok(entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// The timelines that have a history file, in order.
    fn histories(&self) -> Result<Vec<u32>, Error> {
        let names = self.wal_names()?;
        let numbers = names.iter().filter_map(|name| name.strip_suffix(".history"));
        Ok(numbers.filter_map(|number| u32::from_str_radix(number, 16).ok()).collect())
    }

    /// Removes the empty history files above all others: a promotion put them there that was then cut short. Recovery
    /// would take the highest for the newest timeline, and wait for its WAL for ever.
    ///
    /// Those below stay: who follows from an older timeline asks its source for each number in between.
    pub(crate) fn remove_placeholders(&self) -> Result<(), Error> {
        let names = self.wal_names()?;
        for name in names.iter().rev().filter(|name| name.ends_with(".history")) {
            let path = self.wal_dir().join(name);
            let file = fs::metadata(&path).map_err(Error::io(format!("look at {}", path.display())))?;
            if file.len() > 0 {
                break;
            }
            files::remove(&path)?;
        }
        Ok(())
    }

    /// What a timeline's history file says; without one, that it is the first.
    pub(crate) fn forks(&self, timeline: u32) -> Result<Forks, Error> {
        let text = files::read(&self.wal_dir().join(format!("{timeline:08X}.history")))?;
        Ok(history(timeline, &text.unwrap_or_default()))
    }
}

/// Lines of `parent TLI, LSN, reason`, oldest first.
pub(crate) fn history(timeline: u32, text: &str) -> Forks {
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        Some((fields.next()?.parse::<u32>().ok()?, parse_lsn(fields.next()?)?))
    });
    let lines: Vec<_> = lines.collect();
    let first = lines.first().map_or(timeline, |(first, _)| *first);
    let mut forks = Forks::from([(first, Position::default())]);
    for (at, (parent, lsn)) in lines.iter().enumerate() {
        let child = lines.get(at + 1).map_or(timeline, |(child, _)| *child);
        forks.insert(child, Position { timeline: *parent, lsn: *lsn });
    }
    forks
}

pub(crate) fn segment_name(timeline: u32, lsn: u64, segment: u64) -> String {
    format!("{timeline:08X}{}", segment_suffix(lsn, segment))
}

/// Where the segment of this name begins; none if it is none's.
pub(crate) fn begin_of(name: &str, segment: u64) -> Option<u64> {
    let (_, rest) = name.split_at_checked(8).filter(|_| name.len() == 24)?;
    let (high, low) = rest.split_at_checked(8)?;
    let number = |digits| u32::from_str_radix(digits, 16).ok().map(u64::from);
    (number(high)? << 32).checked_add(number(low)?.checked_mul(segment)?)
}

fn segment_suffix(lsn: u64, segment: u64) -> String {
    let number = lsn / segment;
    let each = 0x1_0000_0000 / segment;
    format!("{:08X}{:08X}", number / each, number % each)
}

/// Where the last record begins that `pg_waldump` could read, from the error it ends with.
fn last_read(words: &str) -> Option<u64> {
    let (_, last) = words.split_once("error in WAL record at ")?;
    parse_lsn(last.split(':').next()?)
}

/// A line of `pg_waldump`: where the record ends. A switch takes the rest of its segment.
pub(crate) fn record(line: &str, segment: u64) -> Option<u64> {
    let (_, lengths) = line.split_once("len (rec/tot):")?;
    let (_, total) = lengths.split_once(',')?.0.split_once('/')?;
    let (_, at) = line.split_once("lsn: ")?;
    // Four bytes hold it in the record, too.
    let length = total.trim().parse::<u32>().ok()?;
    let end = record_end(parse_lsn(at.split(',').next()?.trim())?, length.into(), segment)?;
    if line.contains("desc: SWITCH") { end.checked_next_multiple_of(segment) } else { Some(end) }
}

/// A record that doesn't fit on its page goes on behind the next page's header. None ends behind the last address.
fn record_end(start: u64, length: u64, segment: u64) -> Option<u64> {
    let (mut at, mut left) = (start, length);
    loop {
        let room = PAGE - at % PAGE;
        if left <= room {
            return at.checked_add(left)?.checked_next_multiple_of(8);
        }
        left -= room;
        at = at.checked_add(room)?;
        at = at.checked_add(if at.is_multiple_of(segment) { LONG_HEADER } else { SHORT_HEADER })?;
    }
}

#[cfg(test)]
mod tests {
    use super::{begin_of, history, record, record_end, segment_suffix};
    use crate::Position;
    use crate::control::shown;

    #[test]
    fn a_history_names_each_timeline_with_its_fork() {
        let forks = history(5, "1\t0/3000000\tno recovery target specified\n\n2\t0/5000060\treason\n");
        let at = |timeline, lsn| Position { timeline, lsn };
        let expected = [(1, at(0, 0)), (2, at(1, 0x300_0000)), (5, at(2, 0x500_0060))];
        assert_eq!(forks.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(history(1, "").len(), 1);
        assert_eq!(history(4, "").into_iter().collect::<Vec<_>>(), [(4, at(0, 0))]);
    }

    #[test]
    fn a_record_ends_behind_the_headers_it_crosses() {
        assert_eq!(record_end(0x300_0028, 114, 1 << 24), Some(0x300_00a0));
        assert_eq!(record_end(8_100, 92, 1 << 24), Some(8_192));
        assert_eq!(record_end(8_100, 100, 1 << 24), Some(8_192 + 24 + 8));
        assert_eq!(record_end((1 << 24) - 8, 16, 1 << 24), Some((1 << 24) + 40 + 8));
        assert_eq!(record_end(u64::MAX - 8, 16, 1 << 24), None);
    }

    #[test]
    fn lines_and_names_are_understood() {
        let line = "rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/03000028, prev 0/02000100, desc: x";
        assert_eq!(record(line, 1 << 24), Some(0x300_00a0));
        assert_eq!(record("pg_waldump: error: x", 1 << 24), None);
        let switch = "rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/03000110, prev 0/030000D8, desc: SWITCH ";
        assert_eq!(record(switch, 1 << 24), Some(0x400_0000));
        assert_eq!(shown(0x1_0300_0028), "1/3000028");
        assert_eq!(segment_suffix(0x1_0300_0028, 1 << 24), "0000000100000003");
        assert_eq!(begin_of("000000020000000100000003", 1 << 24), Some(0x1_0300_0000));
        assert!(["00000002.history", "waiting", ""].iter().all(|name| begin_of(name, 1 << 24).is_none()));
    }
}
