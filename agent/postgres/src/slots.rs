//! Replication slots: what keeps WAL for a member that is away for a while.
//!
//! A standby makes its slot itself, at its source, before it streams: to name one that isn't there would be to stream
//! only once somebody else has made it, and to fill the source's log until then. Where it can't have one it streams
//! without. The primary makes the slots of those who are away, and drops those of members that are none any more.
//!
//! A physical slot is a member's if it bears the name of one that the agent was ever told to keep a slot for; these
//! names are kept in a file in the data directory. No other slot is ever touched. The names are Patroni's, so a cluster
//! that was Patroni's keeps its slots.

use crate::config::literal;
use crate::{Error, Instant, Postgres, Upstream, files};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The names of the slots that are members'.
const MEMBERS: &str = "primacy.slots.json";

/// What PostgreSQL takes for a name, in bytes.
const NAME_MAX: usize = 63;

/// So long a standby waits for its slot before it streams without. A source that is well needs a hundredth of it.
const ASK: Duration = Duration::from_secs(1);

const QUESTION: &str = "\
SELECT string_agg(slot_name || ' ' || active || ' ' || coalesce(wal_status, 'none'), E'\\n')
  FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary";

/// The name of a member's slot. Members whose names differ only in case, or in `-`, `.` and `_`, share one, and then
/// only one of them streams.
pub fn slot_name(member: &str) -> String {
    let mut name = String::new();
    for character in member.chars().flat_map(char::to_lowercase) {
        match character {
            'a'..='z' | '0'..='9' | '_' => name.push(character),
            '-' | '.' => name.push('_'),
            other => name.push_str(&format!("u{:04}", u32::from(other))),
        }
    }
    name.truncate(NAME_MAX);
    name
}

/// A physical slot.
struct Slot {
    /// Somebody streams through it.
    active: bool,
    /// It keeps nothing, or no longer what it promised to.
    broken: bool,
}

impl Postgres {
    /// Keeps a slot for each of these members but oneself, and none for others that once were members. Made anew is
    /// one that keeps nothing: it has run into `max_slot_wal_keep_size`, or somebody made it without reserving WAL.
    /// What is in use stays as it is.
    ///
    /// # Errors
    /// If this is no primary. If one of them can't be made or dropped; all that can be done is done then.
    pub async fn keep_slots(&self, members: &BTreeSet<String>, by: Instant) -> Result<(), Error> {
        if self.written_timeline(by).await?.is_none() {
            return Err(Error::Unfit("a standby keeps no slots for others".to_owned()));
        }
        let others = members.iter().filter(|name| **name != self.settings.name);
        let wanted: BTreeSet<String> = others.map(|name| slot_name(name)).collect();
        let mut there = self.slots(by).await?;
        let mut known = self.members_slots()?;
        known.extend(wanted.iter().cloned());
        let mut failed = self.drop_slots(&known, &wanted, &mut there, by).await.err();
        known.retain(|name| wanted.contains(name) || there.contains_key(name));
        // Before one is made: what isn't known here is never dropped again.
        self.set_members_slots(&known).await?;
        for name in wanted.iter().filter(|name| !there.contains_key(*name)) {
            let statement = format!("SELECT pg_create_physical_replication_slot({}, true)", literal(name));
            let made = self.execute("make a slot", &statement, by).await;
            failed = failed.or(made.err());
        }
        failed.map_or(Ok(()), Err)
    }

    /// Drops the slots that a standby has from an earlier reign, or made for others that have gone: nothing moves them
    /// on, so they would keep WAL for ever.
    pub(crate) async fn leave_slots(&self, by: Instant) -> Result<(), Error> {
        let mut known = self.members_slots()?;
        if known.is_empty() {
            return Ok(());
        }
        let mut there = self.slots(by).await?;
        let dropped = self.drop_slots(&known, &BTreeSet::new(), &mut there, by).await;
        known.retain(|name| there.contains_key(name));
        self.set_members_slots(&known).await?;
        dropped
    }

    /// Drops those of the known slots that aren't wanted, or are broken, and that nobody uses.
    async fn drop_slots(
        &self,
        known: &BTreeSet<String>,
        wanted: &BTreeSet<String>,
        there: &mut BTreeMap<String, Slot>,
        by: Instant,
    ) -> Result<(), Error> {
        let is_due = |name: &String, slot: &Slot| {
            !slot.active && known.contains(name) && (slot.broken || !wanted.contains(name))
        };
        let due = there.iter().filter(|(name, slot)| is_due(name, slot)).map(|(name, _)| name.clone());
        let mut failed = None;
        for name in due.collect::<Vec<_>>() {
            let statement = format!("SELECT pg_drop_replication_slot({})", literal(&name));
            match self.execute("drop a slot", &statement, by).await {
                Ok(()) => drop(there.remove(&name)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn slots(&self, by: Instant) -> Result<BTreeMap<String, Slot>, Error> {
        let row = self.row("look at the slots", QUESTION, by).await?;
        let text = row.into_iter().next().flatten().unwrap_or_default();
        let slots = text.lines().filter_map(|line| {
            let mut fields = line.split(' ');
            let (name, active, status) = (fields.next()?, fields.next()?, fields.next()?);
            let slot = Slot { active: active == "true", broken: matches!(status, "lost" | "none") };
            Some((name.to_owned(), slot))
        });
        Ok(slots.collect())
    }

    /// Makes this member's slot at a source; says whether it is there.
    /// It keeps WAL from the first answer of the stream on; until then it is one that keeps nothing.
    pub(crate) async fn ask_for_slot(&self, source: &Upstream, by: Instant) -> bool {
        let settings = &self.settings;
        let name = slot_name(&settings.name);
        let ask = async {
            settings.write_passfile()?;
            let program = settings.program("pg_receivewal").args(["--create-slot", "--if-not-exists"]);
            let program = program.args(["--no-password", "--slot", &name, "-d", &settings.conninfo(source)]);
            program.run(by.min(Instant::now() + ASK)).await
        };
        let asked = ask.await;
        if let Err(error) = &asked {
            tracing::debug!(%error, "has no slot at its source, and streams without");
        }
        asked.is_ok()
    }

    fn members_slots(&self) -> Result<BTreeSet<String>, Error> {
        let text = files::read(&self.settings.data_dir.join(MEMBERS))?;
        // Written as a whole, so what can't be read is somebody else's. Then no slot is known, and none is dropped.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
    }

    async fn set_members_slots(&self, names: &BTreeSet<String>) -> Result<(), Error> {
        if self.members_slots()? == *names {
            return Ok(());
        }
        let text = serde_json::json!(names).to_string();
        files::write(self.settings.data_dir.join(MEMBERS), text.into_bytes()).await
    }
}

#[cfg(test)]
mod tests {
    use super::slot_name;

    #[test]
    fn a_slot_is_named_as_patroni_names_it() {
        let cases = [("postgres-0", "postgres_0"), ("Pg.Example", "pg_example"), ("a b", "au0032b")];
        for (member, slot) in cases {
            assert_eq!(slot_name(member), slot);
        }
        assert_eq!(slot_name(&"X".repeat(70)), "x".repeat(63));
    }
}
