//! What this member lost: the WAL of a copy that the elected history goes on without. It is read before the copy is
//! moved aside or rewound, and told in three places: the log, a file beside the data directory, and the store, from
//! where `primacy history` shows it. Nothing is decided from it.

use super::Local;
use crate::board::Notes;
use crate::clock::calendar_now;
use primacy_core::instance::{Data, Instance, Saved};
use primacy_core::lineage;
use primacy_core::store::View;
use primacy_core::{Lsn, Position};
use primacy_postgres::{Aside, Instant, Loss};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
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

    /// As it is published: every read of the store's records carries it, so the lists stay in the file.
    fn publish(&self, notes: &mut Notes) {
        let loss = Loss { listed: Vec::new(), relations: None, ..self.loss.clone() };
        let summary = Lost { loss, ..self.clone() };
        notes.insert(self.key(), serde_json::to_value(summary).unwrap_or_default());
    }
}

impl Local {
    /// Describes the copy that is about to be moved aside or rewound, and reports what is lost with it. PostgreSQL is
    /// not running. What can't be found out by then stays open: that is no reason to keep the copy in its place.
    pub(super) async fn describe(&self, why: &str, by: Instant) -> Aside {
        let data = self.last.borrow().data().cloned();
        let saved = self.saved().unwrap_or_default();
        let view = self.board.look().node.as_ref().map(|node| node.view().clone()).unwrap_or_default();
        let left = data.as_ref().and_then(|data| left_at(&view, &saved, data)).map(place);
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
            left_at: left,
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

/// The last place that a copy shares with the way to the present reign; none if that isn't known, or there is none.
///
/// It lies on the last timeline that both went through with the same mark, where the first of the two leaves it.
fn left_at(view: &View, saved: &Saved, data: &Data) -> Option<Position> {
    let path = lineage::path(view, view.reign.as_ref()?.epoch)?;
    // A source that was opened and sent nothing has left no trace in the history.
    let own = saved.lineage.iter().filter(|(epoch, _)| data.forks.contains_key(epoch));
    let shared = path.iter().zip(own).take_while(|(elected, own)| elected == own).count();
    let (last, _) = path.get(shared.checked_sub(1)?)?;
    let elected = path.get(shared).and_then(|(next, _)| view.epochs.get(next)?.fork).map(|fork| fork.lsn);
    let own = data.forks.values().find(|fork| fork.epoch == *last).unwrap_or(&data.position);
    let own = Some(own.lsn).filter(|_| own.epoch == *last);
    let lsn: Option<Lsn> = elected.into_iter().chain(own).min();
    lsn.map(|lsn| Position { epoch: *last, lsn })
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
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&serde_json::to_vec_pretty(lost)?)?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    File::open(folder)?.sync_all()?;
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
    use primacy_core::store::{EpochRecord, Record, Reign};
    use primacy_core::{Boot, CopyId, Epoch, MachineId, Nonce, Revision, Span, SystemId};

    fn at(epoch: u32, lsn: u64) -> Position {
        Position { epoch: Epoch(epoch), lsn: Lsn(lsn) }
    }

    /// Timelines 1 → 2 (at 100) → 4 (at 200), and 4 reigns.
    fn view() -> View {
        let mut view = View::default();
        for (epoch, fork) in [(1, at(0, 0)), (2, at(1, 100)), (4, at(2, 200))] {
            let nonce = Nonce(u64::from(epoch) * 10);
            let record = EpochRecord { epoch: Epoch(epoch), holder: "a".into(), nonce, fork: Some(fork) };
            view.put(Record::Epoch(record), Revision(1));
        }
        let reign = Reign {
            epoch: Epoch(4),
            holder: "a".into(),
            boot: Boot(1),
            machine: MachineId::default(),
            nonce: Nonce(40),
            ttl: Span::secs(5),
            released: None,
        };
        view.put(Record::Reign(reign), Revision(2));
        view
    }

    /// Where a copy left it that went through these timelines, each with its mark and where it began, up to 250.
    fn left(steps: &[(u32, u64, Position)], in_vain: Option<(u32, u64)>) -> Option<Position> {
        let lineage = steps.iter().map(|(epoch, nonce, _)| (*epoch, *nonce)).chain(in_vain);
        let lineage = lineage.map(|(epoch, nonce)| (Epoch(epoch), Nonce(nonce))).collect();
        let saved = Saved { copy: CopyId(1), lineage, highest: Epoch(4) };
        let forks = steps.iter().map(|(epoch, _, fork)| (Epoch(*epoch), *fork)).collect();
        let position = at(steps.last()?.0, 250);
        left_at(&view(), &saved, &Data { system: SystemId(1), position, forks: std::sync::Arc::new(forks) })
    }

    #[test]
    fn a_copy_left_the_elected_history_where_the_first_of_both_went_its_own_way() {
        let (first, second) = ((1, 10, at(0, 0)), (2, 20, at(1, 100)));
        assert_eq!(left(&[first], None), Some(at(1, 100)), "it went on where the others left");
        assert_eq!(left(&[first, second], None), Some(at(2, 200)));
        assert_eq!(left(&[first, second], Some((3, 30))), Some(at(2, 200)), "a source that sent nothing");
        assert_eq!(left(&[first, (3, 30, at(1, 90))], None), Some(at(1, 90)), "it was promoted before");
        assert_eq!(
            left(&[first, (2, 21, at(1, 100))], None),
            Some(at(1, 100)),
            "another reign of that number"
        );
        assert_eq!(left(&[first, second, (4, 40, at(2, 200))], None), Some(at(4, 250)), "all is contained");
        assert_eq!(left(&[(1, 11, at(0, 0))], None), None, "nothing is shared");
    }

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
