//! What a standby finds when it comes back: whether the WAL that it needs next is still to be had.

use crate::control::parse_lsn;
use crate::wal::{Forks, begin_of, segment_name};
use crate::{Error, Instant, Position, Postgres, Settings, Upstream, files};
use std::fs;

/// What a source is asked, as somebody who may list its files: which cluster it is of, how far its WAL goes, and which
/// segments it has. The list comes last: so one that is not in it, and below that end, isn't only to come yet.
const QUESTION: &str = "\
SELECT (SELECT system_identifier FROM pg_control_system()),
       CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
            ELSE pg_current_wal_flush_lsn() END,
       (SELECT string_agg(name, ' ') FROM pg_ls_dir('pg_wal', true, false) AS name
         WHERE name ~ '^[0-9A-F]{24}$')";

/// What the archive's command is told to be the oldest file that is still needed. PostgreSQL says this, too, where it
/// doesn't know; so nothing is cleared away.
const NO_RESTART_POINT: &str = "000000000000000000000000";

/// A command that ends with more than this couldn't be run, or was ended by a signal; it says nothing about the file.
const CODE_MAX: i32 = 125;

impl Postgres {
    /// Whether the WAL that this standby needs next is gone for good: the source has gone on without it and lists it no
    /// more, nor does the archive have it, as far as it belongs to this history. To be asked when nothing has streamed
    /// for a while; what only isn't there yet isn't gone.
    ///
    /// # Errors
    /// If either of them can't be asked; then nothing is known.
    pub async fn source_lacks_wal(
        &self,
        source: &Upstream,
        history: &Forks,
        by: Instant,
    ) -> Result<bool, Error> {
        let segment = self.settings.control(by).await?.segment;
        let (system_id, next) = self.next_wal(segment, by).await?;
        let row = self.row_from(source, "ask the source for its WAL", QUESTION, by).await?;
        let row: Vec<&str> = row.iter().map(|field| field.as_deref().unwrap_or_default()).collect();
        let [system, end, names] = row[..] else { return Err(unknown()) };
        if system.parse() != Ok(system_id.cast_signed()) {
            return Err(Error::Unfit(format!("{}:{} is of another cluster", source.host, source.port)));
        }
        let end = parse_lsn(end).ok_or_else(unknown)?;
        let oldest = segment_name(next.timeline, next.lsn, segment);
        let is_it = |name: &str| name[8..] == oldest[8..] && name >= oldest.as_str();
        if end <= next.lsn || names.split(' ').filter(|name| name.len() == oldest.len()).any(is_it) {
            return Ok(false);
        }
        let owner = history.iter().rev().find(|(_, fork)| fork.lsn / segment <= next.lsn / segment);
        match (&self.settings.restore_command, owner) {
            (Some(command), Some((timeline, _))) => {
                let name = segment_name(*timeline, next.lsn, segment);
                Ok(!self.settings.is_archived(command, &name, segment, by).await?)
            }
            (_, _) => Ok(true),
        }
    }

    /// The cluster, and the place whose WAL is needed next. One that takes no connections yet shows that in the title of
    /// its startup process: after a rewind it may begin long before the place that its files are at.
    async fn next_wal(&self, segment: u64, by: Instant) -> Result<(u64, Position), Error> {
        let starting = match self.probe(by).await {
            Ok(standing) => return Ok((standing.system_id, standing.position)),
            Err(error) if error.is_starting() => error,
            Err(error) => return Err(error),
        };
        let title = self.startup().map(|(_, title)| title).ok_or(starting)?;
        let name = title.split_once("waiting for ").map(|(_, name)| name.trim()).unwrap_or_default();
        let awaited =
            begin_of(name, segment).zip(name.get(..8).and_then(|id| u32::from_str_radix(id, 16).ok()));
        let (lsn, timeline) = awaited.ok_or_else(|| Error::Unfit(format!("{title}: waits for no WAL")))?;
        Ok((self.settings.control(by).await?.system_id, Position { timeline, lsn }))
    }
}

impl Settings {
    /// Whether the user's command fetches this segment. It is thrown away again.
    async fn is_archived(&self, command: &str, name: &str, bytes: u64, by: Instant) -> Result<bool, Error> {
        let path = self.run_dir.join("restored.wal");
        files::remove(&path)?;
        let line = filled(command, name, &path.to_string_lossy());
        let code = self.command("restore_command", &line).code(by).await;
        let found = fs::metadata(&path).map(|file| file.len());
        files::remove(&path)?;
        match (code?, found) {
            (Some(0), Ok(length)) if length == bytes => Ok(true),
            (Some(0), Ok(length)) => Err(Error::Unfit(format!(
                "restore_command fetched {length} bytes of {name} instead of {bytes}"
            ))),
            (Some(code), _) if (0..=CODE_MAX).contains(&code) => Ok(false),
            (code, _) => {
                let words = code.map_or("ended by a signal".to_owned(), |code| format!("exit code {code}"));
                Err(Error::Program { program: "restore_command", words })
            }
        }
    }
}

/// The command as PostgreSQL would run it.
fn filled(command: &str, file: &str, path: &str) -> String {
    let mut line = String::new();
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        let next = if character == '%' { characters.next() } else { None };
        match (character, next) {
            ('%', Some('f')) => line.push_str(file),
            ('%', Some('p')) => line.push_str(path),
            ('%', Some('r')) => line.push_str(NO_RESTART_POINT),
            ('%', Some('%')) => line.push('%'),
            (character, next) => line.extend([character].into_iter().chain(next)),
        }
    }
    line
}

fn unknown() -> Error {
    Error::Unfit("the source says something unknown about its WAL".to_owned())
}

#[cfg(test)]
mod tests {
    use super::filled;

    #[test]
    fn the_placeholders_are_postgresqls() {
        let line = filled("a %f '%p' %r 100%% %x %", "F", "/p");
        assert_eq!(line, "a F '/p' 000000000000000000000000 100% %x %");
    }
}
