//! What this member lost: the WAL of a copy that the elected history goes on without. It is read before the copy is
//! moved aside or rewound, and told in three places: the log, a file beside the data directory, and the store, from
//! where `primacy history` shows it. Nothing is decided from it.

use super::Local;
use crate::board::Notes;
use crate::clock::calendar_now;
use primacy_core::Position;
use primacy_core::instance::Instance;
use primacy_postgres::{Aside, Instant, Loss, files};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// So many files are published again after a restart of the agent, the newest ones.
const PUBLISHED_MAX: usize = 100;

/// A loss as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Who lost it.
    pub member: String,
    /// When that was found.
    pub at: String,
    /// See [`Loss`].
    #[serde(flatten)]
    pub loss: Loss,
}

impl Lost {
    /// Where it is published, below `primacy/`.
    fn key(&self) -> String {
        format!("losses/{}-{}-{:X}", self.loss.end.timeline, self.member, self.loss.end.lsn)
    }

    /// Without the lists, which stay in the file.
    fn summary(&self) -> Lost {
        let loss = Loss { listed: Vec::new(), relations: None, ..self.loss.clone() };
        Lost { loss, ..self.clone() }
    }

    /// As it is published: every read of the store's records carries it.
    fn publish(&self, notes: &mut Notes) {
        notes.insert(self.key(), serde_json::to_value(self.summary()).unwrap_or_default());
    }
}

impl Local {
    /// Describes the copy that is about to be moved aside or rewound, and reports what is lost with it. PostgreSQL is
    /// not running. What can't be found out by then stays open: that is no reason to keep the copy in its place.
    pub(super) async fn describe(&self, why: &str, left: Option<Position>, by: Instant) -> Aside {
        let data = self.last.borrow().data().cloned();
        let saved = self.saved().unwrap_or_default();
        let mut aside = Aside {
            why: why.to_owned(),
            at: calendar_now(),
            member: self.settings.name.to_string(),
            system_id: data.as_ref().map(|data| data.system.to_string()),
            lineage: saved
                .lineage
                .iter()
                .map(|(epoch, nonce)| format!("timeline {epoch}, mark {nonce}"))
                .collect(),
            left_at: left.map(place),
            end: data.as_ref().map(|data| place(data.position)),
            loss: None,
        };
        let is_at_rest = matches!(*self.last.borrow(), Instance::Stopped { .. });
        if let (Some(fork), Some(end), true) = (aside.left_at, aside.end, is_at_rest) {
            match self.postgres.loss(fork, end, by).await {
                Ok(loss) if loss.bytes == 0 => {}
                Ok(loss) => {
                    self.report(Lost {
                        member: aside.member.clone(),
                        at: aside.at.clone(),
                        loss: loss.clone(),
                    });
                    aside.loss = Some(loss);
                }
                Err(error) => tracing::warn!(%error, %fork, %end, "what is lost could not be read"),
            }
        }
        aside
    }

    fn report(&self, lost: Lost) {
        let folder = folder(&self.settings.postgres.data_dir);
        match keep(&folder, &lost) {
            Ok(path) => tracing::warn!(path = %path.display(), "lost {}", lost.loss),
            Err(error) => tracing::warn!(%error, "lost {}; no file about it could be written", lost.loss),
        }
        self.board.events.tell("lost", &format!("lost {}", lost.loss), &lost.summary());
        lost.publish(&mut self.board.look().notes);
    }

    /// What earlier lives of the agent had to publish may not have got there.
    pub(super) fn publish_losses(&self) {
        let folder = folder(&self.settings.postgres.data_dir);
        match kept(&folder) {
            Ok(losses) => losses.iter().for_each(|lost| lost.publish(&mut self.board.look().notes)),
            Err(error) => tracing::warn!(%error, "what was lost before is not published again"),
        }
    }
}

fn place(position: Position) -> primacy_postgres::Position {
    primacy_postgres::Position { timeline: position.epoch.0, lsn: position.lsn.0 }
}

fn folder(data_dir: &Path) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".losses");
    PathBuf::from(name)
}

/// Writes it durably. One that was reported before the agent was interrupted stays as it is.
fn keep(folder: &Path, lost: &Lost) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(format!("{}-{:016X}.json", lost.loss.end.timeline, lost.loss.end.lsn));
    if path.try_exists()? {
        return Ok(path);
    }
    files::replace(&path, &serde_json::to_vec_pretty(lost)?).map_err(io::Error::other)?;
    Ok(path)
}

/// The newest of what was kept. What makes no sense is left out.
fn kept(folder: &Path) -> io::Result<Vec<Lost>> {
    let entries = match fs::read_dir(folder) {
        Err(none) if none.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    let files = paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let read = files.filter_map(|path| {
        let lost = fs::read(path).map_err(|error| error.to_string());
        let lost = lost.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
        lost.inspect_err(|error| tracing::warn!(path = %path.display(), error, "is no report of a loss")).ok()
    });
    let mut losses: Vec<Lost> = read.collect();
    losses.sort_by(|a, b| b.at.cmp(&a.at));
    losses.truncate(PUBLISHED_MAX);
    Ok(losses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_kept_once_and_published_without_its_lists() {
        let dir = std::env::temp_dir().join(format!("primacy-losses-{}", std::process::id()));
        let folder = folder(&dir.join("data"));
        assert_eq!(kept(&folder).expect("nothing yet"), []);
        let end = primacy_postgres::Position { timeline: 3, lsn: 0x500_8a10 };
        let commit = primacy_postgres::Commit { xid: 7, at: "now".into(), lsn: 1 };
        let loss = Loss { end, transactions: 1, listed: vec![commit], ..Loss::default() };
        let lost = Lost { member: "a".into(), at: "2026".into(), loss };
        let path = keep(&folder, &lost).expect("written");
        assert_eq!(path, dir.join("data.losses/3-0000000005008A10.json"));
        keep(&folder, &Lost { at: "2027".into(), ..lost.clone() }).expect("there already");
        fs::write(folder.join("garbage.json"), "{").expect("garbage");
        assert_eq!(kept(&folder).expect("all of them"), std::slice::from_ref(&lost));

        let mut notes = Notes::new();
        lost.publish(&mut notes);
        let (key, value) = notes.pop_first().expect("a note");
        assert_eq!(key, "losses/3-a-5008A10");
        assert_eq!((&value["transactions"], &value["listed"]), (&1.into(), &serde_json::json!([])));
        fs::remove_dir_all(dir).expect("the scratch folder");
    }
}
