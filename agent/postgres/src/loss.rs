//! What a copy holds that the elected history doesn't: read from its WAL before it is moved aside or rewound.

use crate::control::{Control, lsn_as_text, parse_lsn};
use crate::retention::Bytes;
use crate::{Error, Instant, Position, Postgres, Settings};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// So many transactions are listed; all are counted.
const LISTED_MAX: usize = 1_000;

/// Relations are counted where there is no more WAL than this: each record of theirs is a line to be read.
const RELATIONS_WAL_MAX: u64 = 16 << 20;

/// Below this number relations are PostgreSQL's own.
const FIRST_OF_USERS: u32 = 16_384;

/// What is lost with a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The last place that it shares with the elected history.
    pub fork: Position,
    /// The end of its last complete record.
    pub end: Position,
    /// The bytes of WAL between.
    pub bytes: u64,
    /// How many transactions were committed there.
    pub transactions: u64,
    /// The first thousand of them, in order.
    pub listed: Vec<Commit>,
    /// When the first and the last was committed.
    pub between: Option<(String, String)>,
    /// How many were prepared there and neither committed nor rolled back.
    pub prepared: u64,
    /// Records for each table, as tablespace/database/file; none if there was too much WAL to count them.
    pub relations: Option<BTreeMap<String, u64>>,
    /// WAL that is no longer there, so that nobody knows what was in it.
    pub missing: Vec<Gap>,
}

/// A transaction that was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its number.
    pub xid: u32,
    /// When, in UTC.
    pub at: String,
    /// Where its commit record begins.
    #[serde(with = "lsn_as_text")]
    pub lsn: u64,
}

/// WAL that is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Where it began.
    pub from: Position,
    /// Where it ended.
    #[serde(with = "lsn_as_text")]
    pub to: u64,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.transactions == 1 { "transaction" } else { "transactions" };
        write!(f, "{} {noun} in {} of WAL", self.transactions, Bytes(self.bytes))?;
        write!(f, ", {} to {}", self.fork, self.end)?;
        if let Some((first, last)) = &self.between {
            write!(f, ", committed between {first} and {last}")?;
        }
        if self.prepared > 0 {
            write!(f, "; {} more were prepared and not finished", self.prepared)?;
        }
        for gap in &self.missing {
            let to = Position { lsn: gap.to, ..gap.from };
            write!(f, "; the WAL from {} to {to} is no longer there, it may hold more", gap.from)?;
        }
        Ok(())
    }
}

/// A piece of one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    from: Position,
    to: u64,
}

impl Postgres {
    /// What this copy holds from `fork`, the last place that it shares with the elected history, to `end`, its own
    /// [end](crate::Present). PostgreSQL is not running.
    ///
    /// WAL that is no longer there is named in the answer.
    ///
    /// # Errors
    /// If `fork` isn't in the history of `end`, or the WAL that is there can't be read.
    pub async fn loss(&self, fork: Position, end: Position, by: Instant) -> Result<Loss, Error> {
        let control = self.settings.control(by).await?;
        let stretches = self.settings.stretches(fork, end)?;
        let bytes = stretches.iter().map(|stretch| stretch.to - stretch.from.lsn).sum();
        let mut reading = Reading::default();
        for stretch in stretches {
            self.settings
                .read_stretch(stretch, bytes <= RELATIONS_WAL_MAX, &control, &mut reading, by)
                .await?;
        }
        let Reading { loss, relations, prepared } = reading;
        let relations = (bytes <= RELATIONS_WAL_MAX).then_some(relations);
        let prepared = u64::try_from(prepared.len()).unwrap_or(u64::MAX);
        Ok(Loss { fork, end, bytes, prepared, relations, ..loss })
    }
}

impl Settings {
    /// What lies between, oldest first.
    fn stretches(&self, fork: Position, end: Position) -> Result<Vec<Stretch>, Error> {
        let forks = self.forks(end.timeline)?;
        let (mut stretches, mut at) = (Vec::new(), end);
        while at.timeline != fork.timeline {
            let begins = forks.get(&at.timeline).copied().filter(|begins| begins.timeline > 0);
            let begins = begins
                .ok_or_else(|| Error::Unfit(format!("{fork} is not in the history of the copy at {end}")))?;
            stretches.push(Stretch { from: Position { lsn: begins.lsn, ..at }, to: at.lsn });
            at = begins;
        }
        if at.lsn < fork.lsn {
            return Err(Error::Unfit(format!("{fork} is not in the history of the copy at {end}")));
        }
        stretches.push(Stretch { from: fork, to: at.lsn });
        stretches.retain(|stretch| stretch.from.lsn < stretch.to);
        stretches.reverse();
        Ok(stretches)
    }

    /// Reads the parts of it of which there is WAL.
    async fn read_stretch(
        &self,
        stretch: Stretch,
        with_relations: bool,
        control: &Control,
        reading: &mut Reading,
        by: Instant,
    ) -> Result<(), Error> {
        let (timeline, segment) = (stretch.from.timeline, control.segment);
        let mut from = stretch.from;
        while from.lsn < stretch.to {
            let is_there = self.has_segment(timeline, from.lsn, segment)?;
            let mut to = from.lsn;
            while to < stretch.to && self.has_segment(timeline, to, segment)? == is_there {
                to = (to / segment + 1) * segment;
            }
            let to = to.min(stretch.to);
            if is_there {
                self.read_part(from, to, segment, with_relations, reading, by).await?;
            } else {
                reading.loss.missing.push(Gap { from, to });
            }
            from.lsn = to;
        }
        Ok(())
    }

    async fn read_part(
        &self,
        from: Position,
        to: u64,
        segment: u64,
        with_relations: bool,
        reading: &mut Reading,
        by: Instant,
    ) -> Result<(), Error> {
        let mut dump = self.dump(from, to, segment).arg("--rmgr=Transaction");
        if with_relations {
            dump = dump.args(["--rmgr=Heap", "--rmgr=Heap2"]);
        }
        // Of a copy that was written to for days it may be gigabytes.
        let printed = dump.hear(by, |line| reading.see(line)).await?;
        // A record that isn't whole ends it with an error, and so does a part in which none begins.
        let at_its_end = ["error in WAL record at", "could not find a valid record"];
        if !printed.succeeded && !at_its_end.iter().any(|words| printed.err.contains(words)) {
            return Err(printed.into_error());
        }
        Ok(())
    }
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    loss: Loss,
    /// Records for each table.
    relations: BTreeMap<String, u64>,
    /// Prepared and not finished yet.
    prepared: BTreeSet<u32>,
}

impl Reading {
    /// A line of `pg_waldump`.
    fn see(&mut self, line: &str) {
        let Some(line) = Line::parse(line) else { return };
        match line {
            Line::Commit(commit) => {
                self.prepared.remove(&commit.xid);
                let first = self.loss.between.take().map_or_else(|| commit.at.clone(), |(first, _)| first);
                self.loss.between = Some((first, commit.at.clone()));
                self.loss.transactions += 1;
                if self.loss.listed.len() < LISTED_MAX {
                    self.loss.listed.push(commit);
                }
            }
            Line::Prepare(xid) => drop(self.prepared.insert(xid)),
            Line::Abort(xid) => drop(self.prepared.remove(&xid)),
            Line::Heap(relation) => {
                *self.relations.entry(relation.to_owned()).or_default() += 1;
            }
        }
    }
}

/// What matters of a line.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Commit(Commit),
    Prepare(u32),
    Abort(u32),
    Heap(&'a str),
}

impl Line<'_> {
    fn parse(line: &str) -> Option<Line<'_>> {
        let manager = line.strip_prefix("rmgr: ")?.split_whitespace().next()?;
        let (_, words) = line.split_once("desc: ")?;
        let own_xid = || line.split_once("tx:")?.1.split(',').next()?.trim().parse().ok();
        // What was prepared by its own transaction is finished by another, and named first.
        let (kind, rest) = words.split_once(' ')?;
        let finished = || rest.split(':').next()?.trim().parse().ok();
        match (manager, kind) {
            ("Transaction", "COMMIT") => commit(line, own_xid()?, rest),
            ("Transaction", "COMMIT_PREPARED") => commit(line, finished()?, rest.split_once(": ")?.1),
            ("Transaction", "PREPARE") => own_xid().map(Line::Prepare),
            ("Transaction", "ABORT_PREPARED") => finished().map(Line::Abort),
            ("Heap" | "Heap2", _) => {
                let relation = line.split_once("blkref #0: rel ")?.1.split_whitespace().next()?;
                let number: u32 = relation.rsplit('/').next()?.parse().ok()?;
                (number >= FIRST_OF_USERS).then_some(Line::Heap(relation))
            }
            (_, _) => None,
        }
    }
}

/// `2026-11-25 04:00:00.123456 UTC; inval msgs: …`, as the programs here print a time.
fn commit<'a>(line: &str, xid: u32, rest: &str) -> Option<Line<'a>> {
    let (_, lsn) = line.split_once("lsn: ")?;
    let time = rest.split(" UTC").next()?;
    let at = format!("{}Z", time.replace(' ', "T"));
    Some(Line::Commit(Commit { xid, at, lsn: parse_lsn(lsn.split(',').next()?.trim())? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(manager: &str, xid: u32, words: &str) -> String {
        format!(
            "rmgr: {manager:<11} len (rec/tot):     34/    34, tx: {xid:>10}, lsn: 0/0150A2F8, prev 0/0150A2B8, \
             desc: {words}"
        )
    }

    const TIME: &str = "2026-11-25 04:00:00.123456 UTC";

    #[test]
    fn only_what_was_committed_counts() {
        let mut reading = Reading::default();
        let transaction = |xid, words: String| line("Transaction", xid, &words);
        let lines = [
            transaction(7, format!("COMMIT {TIME}; inval msgs: catcache 51")),
            transaction(8, format!("ABORT {TIME}")),
            transaction(9, format!("PREPARE gid a: {TIME}")),
            transaction(10, format!("PREPARE gid b: {TIME}")),
            transaction(11, format!("PREPARE gid c: {TIME}")),
            transaction(0, format!("COMMIT_PREPARED 9: {TIME}")),
            transaction(0, format!("ABORT_PREPARED 10: {TIME}")),
            transaction(12, "ASSIGNMENT xtop 7: subxacts: 12".to_owned()),
            line("Heap", 7, "INSERT off 3 flags 0x00, blkref #0: rel 1663/5/16384 blk 0"),
            line("Heap", 7, "INSERT off 3 flags 0x00, blkref #0: rel 1663/5/1259 blk 0"),
            "pg_waldump: error: error in WAL record at 0/1".to_owned(),
        ];
        lines.iter().for_each(|line| reading.see(line));
        let at = "2026-11-25T04:00:00.123456Z".to_owned();
        let commit = |xid| Commit { xid, at: at.clone(), lsn: 0x150_a2f8 };
        assert_eq!(reading.loss.listed, [commit(7), commit(9)]);
        assert_eq!(reading.loss.transactions, 2);
        assert_eq!(reading.prepared, BTreeSet::from([11]));
        assert_eq!(reading.relations, BTreeMap::from([("1663/5/16384".to_owned(), 1)]));
        assert_eq!(reading.loss.between, Some((at.clone(), at)));
    }

    #[test]
    fn it_can_be_told_in_a_sentence_and_kept_as_json() {
        let place = |lsn| Position { timeline: 3, lsn };
        let loss = Loss {
            fork: place(0x500_0060),
            end: place(0x500_8a10),
            bytes: 35_248,
            transactions: 12,
            between: Some(("a".to_owned(), "b".to_owned())),
            ..Loss::default()
        };
        let sentence =
            "12 transactions in 34 kB of WAL, t3 0/5000060 to t3 0/5008A10, committed between a and b";
        assert_eq!(loss.to_string(), sentence);
        let gap = Gap { from: place(0x500_0060), to: 0x600_0000 };
        let loss = Loss { missing: vec![gap], prepared: 1, ..loss };
        let more = "; 1 more were prepared and not finished; the WAL from t3 0/5000060 to t3 0/6000000 is no longer \
                    there, it may hold more";
        assert_eq!(loss.to_string(), format!("{sentence}{more}"));
        let text = serde_json::to_string(&loss).unwrap();
        assert!(text.contains(r#""fork":{"timeline":3,"lsn":"0/5000060"}"#), "{text}");
        assert_eq!(serde_json::from_str::<Loss>(&text).unwrap(), loss);
    }
}
