//! The data directory: what is there, made, copied. Nothing is ever deleted but what an order of ours had begun and not
//! finished.

use crate::elsewhere::{self, is_empty};
use crate::progress::{Work, copied};
use crate::wal::Forks;
use crate::{Error, Instant, Position, Postgres, Settings, Upstream, User, files, leftovers};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tokio::task::spawn_blocking;

/// What describes this copy of the data to the agent, inside it.
pub(crate) const IDENTITY: &str = "primacy.json";

/// Lies beside what is being made, and says that it is ours, and where it has tablespaces.
const MAKING: &str = "primacy-making";

/// What is found where the data directory should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or an empty folder.
    Absent,
    /// Something that is not to be touched.
    Foreign(Foreign),
    /// A data directory without the parts that every complete one has.
    Incomplete(String),
    /// A complete one.
    Present(Present),
}

/// Why it is not to be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// Not a data directory.
    NotPostgres,
    /// Of another major version.
    OtherVersion,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Foreign::NotPostgres => {
                "there are files, but it is no data directory of PostgreSQL: move them away, or name another place in \
                 postgresql.data_dir. Nothing was touched"
            }
            Foreign::OtherVersion => {
                "the data is of another major version than the programs in postgresql.bin_dir: name those of its \
                 version there, or upgrade the data yourself. Nothing was touched"
            }
        })
    }
}

/// A complete data directory, at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// The system identifier.
    pub system_id: u64,
    /// The end of the last complete record.
    pub position: Position,
    /// Shut down in order.
    pub clean: bool,
    /// `standby.signal` is there.
    pub signal: bool,
    /// The history of the position's timeline.
    pub forks: Forks,
}

impl Postgres {
    /// Looks at the data directory; PostgreSQL is not running.
    ///
    /// # Errors
    /// If it can't be read.
    pub async fn inspect(&self, by: Instant) -> Result<Found, Error> {
        let dir = &self.settings.data_dir;
        if is_empty(dir)? {
            return Ok(Found::Absent);
        }
        let Some(version) = version_of(dir)? else {
            return Ok(Found::Foreign(Foreign::NotPostgres));
        };
        if !files::is_there(&self.settings.control_path())? {
            return Ok(Found::Incomplete("there is no pg_control".to_owned()));
        }
        if version != self.major(by).await? {
            return Ok(Found::Foreign(Foreign::OtherVersion));
        }
        let control = match self.settings.intact_control(by).await? {
            Ok(control) => control,
            Err(damage) => return Ok(Found::Incomplete(format!("pg_control is damaged: {damage}"))),
        };
        let position = self.settings.wal_end(&control, by).await?;
        Ok(Found::Present(Present {
            system_id: control.system_id,
            position,
            clean: control.clean,
            signal: files::is_there(&dir.join("standby.signal"))?,
            forks: self.settings.forks(position.timeline)?,
        }))
    }

    /// The major version of the binaries.
    async fn major(&self, by: Instant) -> Result<String, Error> {
        let text = self.settings.program("postgres").arg("--version").run(by).await?;
        let version = text.split_whitespace().nth(2).unwrap_or_default();
        Ok(version.split('.').next().unwrap_or_default().to_owned())
    }

    /// Makes a data directory.
    ///
    /// # Errors
    /// If there is one already, or `initdb` fails; nothing is at its place then.
    pub async fn initdb(&self, identity: &Value, by: Instant) -> Result<(), Error> {
        let new = self.new_dir(by).await?;
        let password = self.settings.run_dir.join("initdb.password");
        let superuser = &self.settings.superuser;
        let mut initdb = self.settings.program("initdb").arg("-D").arg(&new);
        initdb = initdb
            .arg("--username")
            .arg(&superuser.name)
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"]);
        if let Some(words) = &superuser.password {
            files::replace(&password, words.as_bytes())?;
            initdb = initdb.arg("--pwfile").arg(&password);
        }
        let made = initdb.args(&self.settings.initdb).run(by).await;
        files::remove(&password)?;
        made?;
        self.finish(&new, identity)
    }

    /// Copies the data directory of another member, to be started as a standby.
    ///
    /// The source begins with a checkpoint, and while it writes that there is no progress. It goes on writing where that
    /// takes too long, so the next try finds less to wait for.
    ///
    /// # Errors
    /// If there is one already, or `pg_basebackup` fails; nothing is at its place then.
    pub async fn clone_from(&self, source: &Upstream, identity: &Value, by: Instant) -> Result<(), Error> {
        let new = self.new_dir(by).await?;
        let places = self.places_for(source, by).await?;
        files::replace(&new.with_file_name(MAKING), json!(places).to_string().as_bytes())?;
        self.settings.write_passfile()?;
        let backup = self.settings.program("pg_basebackup").arg("-D").arg(&new);
        let backup = backup.args(["-X", "stream", "--checkpoint=fast", "--no-password"]);
        let backup = backup.arg("--progress").arg("-d").arg(self.settings.conninfo(source));
        let mut work = self.begin("copy from another member");
        backup.watch(&mut work, by, hear_copied).await?.success()?;
        for inherited in [IDENTITY, "postmaster.pid", "postmaster.opts", "recovery.signal"] {
            files::remove(&new.join(inherited))?;
        }
        files::replace(&new.join("standby.signal"), b"")?;
        self.finish(&new, identity)
    }

    /// Where a data directory is to be made: in a folder of ours beside the one it will be. Those of dead orders are
    /// cleared away.
    async fn new_dir(&self, by: Instant) -> Result<PathBuf, Error> {
        let dir = &self.settings.data_dir;
        if !is_empty(dir)? {
            return Err(Error::Unfit(format!("{} is not empty", dir.display())));
        }
        let (parent, prefix) = beside(dir, ".new-")?;
        fs::create_dir_all(&parent).map_err(Error::io(format!("make {}", parent.display())))?;
        self.finish_moving()?;
        clear_away(&parent, &prefix, by).await?;
        for number in std::process::id().. {
            let folder = parent.join(format!("{prefix}{number}"));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => {
                    files::replace(&folder.join(MAKING), b"")?;
                    return Ok(folder.join("data"));
                }
                Err(taken) if taken.kind() == ErrorKind::AlreadyExists => {}
                Err(why) => {
                    return Err(Error::Io { what: format!("make {}", folder.display()), why });
                }
            }
        }
        Err(Error::Unfit(format!("there is no free name beside {}", dir.display())))
    }

    /// Puts a finished data directory in its place: from here on it is complete, or it isn't there.
    fn finish(&self, new: &Path, identity: &Value) -> Result<(), Error> {
        files::replace(&new.join(IDENTITY), identity.to_string().as_bytes())?;
        let dir = &self.settings.data_dir;
        // From here on its own links tell where it has tablespaces, and in its place nobody clears them away.
        files::replace(&new.with_file_name(MAKING), b"")?;
        fs::rename(new, dir).map_err(Error::io(format!("put {} in its place", new.display())))?;
        files::sync_parent(dir)?;
        // Only the marker is left in there; if it can't be removed now, it goes with the next copy.
        drop(new.parent().map(fs::remove_dir_all));
        Ok(())
    }

    /// What the agent wrote about this copy of the data; none if nothing, or nothing readable.
    pub fn identity(&self) -> Option<Value> {
        let text = fs::read_to_string(self.settings.data_dir.join(IDENTITY)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Writes what describes this copy of the data, durably, unless it is there already.
    ///
    /// # Errors
    /// If it can't be written; the old one is there then.
    pub async fn set_identity(&self, identity: &Value) -> Result<(), Error> {
        if self.identity().as_ref() == Some(identity) {
            return Ok(());
        }
        files::write(self.settings.data_dir.join(IDENTITY), identity.to_string().into_bytes()).await
    }
}

impl Settings {
    /// How a standby or a copy reaches another member. It is seen by all users of the host while a copy is made, and
    /// PostgreSQL logs it whenever it changes: the password is elsewhere.
    pub(crate) fn conninfo(&self, source: &Upstream) -> String {
        self.conninfo_of(&self.replication, &self.name, source)
    }

    /// The same, as whom and under what name.
    pub(crate) fn conninfo_of(&self, user: &User, application: &str, source: &Upstream) -> String {
        let mut words = vec![
            ("host", source.host.clone()),
            ("port", source.port.to_string()),
            ("user", user.name.clone()),
            ("application_name", application.to_owned()),
            ("connect_timeout", "5".to_owned()),
            ("sslmode", "prefer".to_owned()),
        ];
        if user.password.is_some() {
            words.push(("passfile", self.passfile().to_string_lossy().into_owned()));
        }
        let quoted = words
            .iter()
            .map(|(key, value)| format!("{key}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")));
        quoted.collect::<Vec<_>>().join(" ")
    }

    fn passfile(&self) -> PathBuf {
        self.run_dir.join("replication.pgpass")
    }

    /// The file that [`Settings::conninfo_of`] names, for this user alone.
    pub(crate) fn write_passfile(&self) -> Result<(), Error> {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace(':', "\\:");
        let lines = [&self.replication, &self.rewind].into_iter().filter_map(|user| {
            let password = user.password.as_ref()?;
            Some(format!("*:*:*:{}:{}\n", escaped(&user.name), escaped(password)))
        });
        files::replace(&self.passfile(), lines.collect::<String>().as_bytes())
    }
}

/// Says on the board how much is copied. Nothing else that is said is about progress.
pub(crate) fn hear_copied(line: &str, work: &mut Work) -> bool {
    let Some((done, total)) = copied(line) else { return false };
    work.tell(|progress| (progress.done_bytes, progress.total_bytes) = (done, Some(total)));
    true
}

/// Clears away what dead orders had begun, and only that.
async fn clear_away(parent: &Path, prefix: &str, by: Instant) -> Result<(), Error> {
    let entries = fs::read_dir(parent).map_err(Error::io(format!("read {}", parent.display())))?;
    for entry in entries.flatten() {
        let (name, folder) = (entry.file_name(), entry.path());
        let Some(number) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else { continue };
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_folder || number.parse::<u32>().is_err() || !folder.join(MAKING).is_file() {
            tracing::warn!(path = %folder.display(), "leaves alone what no order of ours has begun");
            continue;
        }
        leftovers::kill(&folder.join("data"), by).await?;
        let noted = files::read(&folder.join(MAKING))?.and_then(|text| serde_json::from_str(&text).ok());
        let noted: Vec<PathBuf> = noted.unwrap_or_default();
        let removed = spawn_blocking(move || {
            elsewhere::clear(&folder.join("data"), &noted)?;
            // The marker goes last.
            match fs::remove_dir_all(folder.join("data")) {
                Err(why) if why.kind() != ErrorKind::NotFound => Err(why),
                Ok(()) | Err(_) => fs::remove_dir_all(&folder),
            }
        });
        let removed = removed.await.unwrap_or_else(|panic| Err(panic.into()));
        removed.map_err(Error::io("clear away an unfinished copy"))?;
    }
    Ok(())
}

/// What the data directory says of its version; none if it says nothing, as no data directory does. Whatever else it
/// says is no version of ours.
fn version_of(dir: &Path) -> Result<Option<String>, Error> {
    let path = dir.join("PG_VERSION");
    match fs::read(&path) {
        Ok(bytes) => {
            Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned()).filter(|said| !said.is_empty()))
        }
        Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(why) => Err(Error::Io { what: format!("read {}", path.display()), why }),
    }
}

/// The folder that holds the data directory, and how names beside it begin.
pub(crate) fn beside(dir: &Path, what: &str) -> Result<(PathBuf, String), Error> {
    let name = dir.file_name().map(OsStr::to_string_lossy);
    match (dir.parent(), name) {
        (Some(parent), Some(name)) => Ok((parent.to_owned(), format!("{name}{what}"))),
        (_, _) => Err(Error::Unfit(format!("{} is no place for a data directory", dir.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_connection_string_names_the_file_of_the_password_alone() {
        let run_dir = std::env::temp_dir().join(format!("primacy-passfile-{}", std::process::id()));
        fs::create_dir_all(&run_dir).unwrap();
        let replication = User { name: "re:pl".into(), password: Some(r"p:'\ w".into()) };
        let settings = Settings { run_dir: run_dir.clone(), replication, ..Settings::default() };
        let conninfo = settings.conninfo(&Upstream { host: "h".into(), port: 1 });
        assert!(conninfo.contains("replication.pgpass'") && !conninfo.contains('\\'), "{conninfo}");
        settings.write_passfile().unwrap();
        let line = fs::read_to_string(settings.passfile()).unwrap();
        assert_eq!(line, "*:*:*:re\\:pl:p\\:'\\\\ w\n");
        let mode = fs::metadata(settings.passfile()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(&run_dir).unwrap();
    }
}
