//! Where WAL comes from and where it goes to: the settings that change while PostgreSQL runs, in a file of their own. It
//! is rewritten and reloaded, and never needs a restart.
//!
//! An archive may hold what was never part of the history: of a promotion that was cut short, or of another cluster
//! (hazards C15, C16). So nothing comes from it but what the history names, whatever lies there; and nothing goes to it
//! before somebody says that the timeline it belongs to has its place.

use crate::config::quoted;
use crate::process::wait;
use crate::slots::slot_name;
use crate::wal::{Forks, segment_name};
use crate::{Error, Instant, Postgres, Settings, Upstream, files};
use std::fmt::Write as _;

/// The file's name, as it is included.
pub(crate) const SOURCES: &str = "primacy.source.conf";

/// So many timelines are known to the shell, the newest: a command that is too long would not be run at all.
const TIMELINES_MAX: usize = 500;

/// What the file says.
pub(crate) enum Sources<'a> {
    /// No WAL comes from anywhere, and none is archived.
    Closed,
    /// No WAL comes from anywhere. What the user says about archiving is in force.
    Archiving,
    /// WAL comes from another member. What the user says about archiving is in force, for those who let standbys archive.
    Open {
        /// The member.
        source: &'a Upstream,
        /// Through the slot of this one.
        slot: bool,
        /// The command that fetches WAL from the archive; empty if there is none.
        restore: String,
    },
}

impl Postgres {
    /// Lets WAL be archived, as the user has set it up. Until then, from a start and from a promotion on, nothing is, and
    /// all of it is kept. To be called once the timeline is known to be part of the history.
    ///
    /// # Errors
    /// If this is no primary; nothing has changed then. If it isn't in force by the deadline; it may be all the same.
    pub async fn open_archive(&self, by: Instant) -> Result<(), Error> {
        if self.written_timeline(by).await?.is_none() {
            return Err(Error::Unfit("a standby has nothing to archive".to_owned()));
        }
        let before = self.loaded_at(by).await?;
        self.settings.write_sources(&Sources::Archiving).await?;
        self.reload()?;
        while self.loaded_at(by).await? == before {
            wait(by, "open the archive").await?;
        }
        Ok(())
    }
}

impl Settings {
    /// Says where WAL comes from and goes to, for the next reload.
    pub(crate) async fn write_sources(&self, sources: &Sources<'_>) -> Result<(), Error> {
        if matches!(sources, Sources::Open { .. }) {
            self.write_passfile()?;
        }
        if self.says(sources)? {
            return Ok(());
        }
        files::write(self.data_dir.join(SOURCES), self.text(sources).into_bytes()).await
    }

    /// Whether that is what the file says.
    pub(crate) fn says(&self, sources: &Sources<'_>) -> Result<bool, Error> {
        Ok(files::read(&self.data_dir.join(SOURCES))? == Some(self.text(sources)))
    }

    fn text(&self, sources: &Sources<'_>) -> String {
        let (conninfo, slot, restore) = match sources {
            Sources::Closed | Sources::Archiving => (String::new(), String::new(), ""),
            Sources::Open { source, slot, restore } => {
                let slot = if *slot { slot_name(&self.name) } else { String::new() };
                (self.conninfo(source), slot, restore.as_str())
            }
        };
        let mut text = String::new();
        let settings = [
            ("primary_conninfo", conninfo.as_str()),
            ("primary_slot_name", &slot),
            ("restore_command", restore),
        ];
        let held = ["archive_command", "archive_library"].map(|name| (name, ""));
        let held = held.into_iter().filter(|(name, _)| self.is_to_be_held(name, sources));
        for (name, value) in settings.into_iter().chain(held) {
            writeln!(text, "{name} = {}", quoted(value)).expect("writing to a string");
        }
        text
    }

    /// Without either the archiver waits. A command that fails would make it try, complain and rest for a minute.
    fn is_to_be_held(&self, name: &str, sources: &Sources<'_>) -> bool {
        // Not every version knows of a library.
        let known = name == "archive_command" || self.parameters.contains_key(name);
        known && matches!(sources, Sources::Closed)
    }

    /// The user's command for the archive, in front of it a word about what may come from there. It has the user's
    /// placeholders, and ends as the user's does.
    pub(crate) async fn restore(&self, history: &Forks, by: Instant) -> Result<String, Error> {
        match &self.restore_command {
            Some(command) => Ok(guarded(command, history, self.control(by).await?.segment)),
            None => Ok(String::new()),
        }
    }
}

/// Nothing but files of these timelines reaches the command: all of the newest, and of each other what it has before the
/// segment in which the next one begins. What follows there was never elected, and PostgreSQL would take it as long as
/// the archive lacks the right one.
fn guarded(command: &str, history: &Forks, segment: u64) -> String {
    let mut cases = String::new();
    let mut next: Option<u64> = None;
    for (timeline, fork) in history.iter().rev().take(TIMELINES_MAX) {
        let case = match next {
            None => format!("{timeline:08X}*) ;; "),
            Some(lsn) => {
                let end = segment_name(*timeline, lsn, segment);
                format!("{timeline:08X}.history) ;; {timeline:08X}*) [ %f \\< {end} ] || exit 1 ;; ")
            }
        };
        cases.push_str(&case);
        next = Some(fork.lsn);
    }
    format!("case %f in {cases}*) exit 1 ;; esac; {command}")
}

#[cfg(test)]
mod tests {
    use super::guarded;
    use crate::Position;
    use crate::wal::Forks;
    use std::process::Command;

    /// How the command ends that PostgreSQL would run for this file.
    fn ends(command: &str, history: &Forks, file: &str) -> Option<i32> {
        let line = guarded(command, history, 1 << 24).replace("%f", file);
        Command::new("sh").args(["-c", &line]).status().unwrap().code()
    }

    #[test]
    fn only_what_is_of_the_history_is_asked_for() {
        let at = |timeline, lsn| Position { timeline, lsn };
        let history = Forks::from([(1, at(0, 0)), (3, at(1, 0x0a12_3456)), (0x1f, at(3, 0x1_0b00_0000))]);
        let wanted = [
            "00000001.history",
            "00000003.history",
            "0000001F.history",
            "000000010000000000000009",
            "00000003000000000000000A",
            "00000003000000010000000A",
            "0000001F000000010000000B",
            "0000001F0000000500000000",
        ];
        let refused = [
            "00000002.history",
            "00000020.history",
            "000000020000000000000009",
            "00000001000000000000000A",
            "000000010000000100000000",
            "00000003000000010000000B",
            "000000200000000500000000",
        ];
        for (files, code) in [(wanted.as_slice(), 7), (&refused, 1)] {
            for file in files {
                assert_eq!(ends("true && exit 7", &history, file), Some(code), "{file}");
            }
        }
        assert_eq!(ends("true", &Forks::new(), "00000001.history"), Some(1));
    }

    #[test]
    fn a_long_history_is_short_enough_for_the_shell() {
        let history: Forks =
            (1..5_000).map(|n| (n, Position { timeline: n - 1, lsn: u64::from(n) << 24 })).collect();
        assert_eq!(ends("true", &history, "00001387.history"), Some(0));
        assert_eq!(ends("true", &history, "00001388.history"), Some(1));
        assert!(guarded("", &history, 1 << 24).len() < 60_000);
    }
}
