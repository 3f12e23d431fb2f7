//! Files that survive a power cut: written beside, synced, renamed.

use crate::Error;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// Replaces a file as a whole and durably, readable by its owner only.
///
/// # Errors
/// The old one is still there then, unless only the folder could not be synced.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    let what = || Error::io(format!("write {}", path.display()));
    let beside = path.with_extension("primacy-new");
    let mut options = File::options();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut file = options.open(&beside).map_err(what())?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(what())?;
    fs::rename(&beside, path).map_err(what())?;
    sync_parent(path)
}

/// One write away from the calling thread at a time: what is begun later is what stays.
static TURN: Mutex<()> = Mutex::const_new(());

/// The same as [`replace`], without keeping the calling thread waiting for the disk: a lease may depend on it. Whoever
/// gives this up while the disk is at work has to wait for [`settled`] before anything else is done to the folder.
///
/// # Errors
/// As [`replace`].
pub async fn write(path: PathBuf, content: Vec<u8>) -> Result<(), Error> {
    apart(move || replace(&path, &content)).await
}

/// Makes empty files, and all of them durable at once. Those that are there stay as they are.
///
/// # Errors
/// Some may be there then.
pub(crate) async fn make_empty(folder: PathBuf, names: Vec<String>) -> Result<(), Error> {
    apart(move || {
        for name in &names {
            let path = folder.join(name);
            let made = File::options().create(true).append(true).mode(0o600).open(&path);
            made.map_err(Error::io(format!("write {}", path.display())))?;
        }
        sync_folder(&folder)
    })
    .await
}

/// Waits until nothing is being written any more that somebody has given up.
pub async fn settled() {
    drop(TURN.lock().await);
}

async fn apart(write: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Error> {
    let turn = TURN.lock().await;
    let written = spawn_blocking(move || {
        let written = write();
        drop(turn);
        written
    });
    written.await.unwrap_or_else(|why| Err(Error::io("write a file")(why.into())))
}

/// Makes a rename or a new file in the folder of `path` durable.
///
/// # Errors
/// If it can't be synced.
pub fn sync_parent(path: &Path) -> Result<(), Error> {
    sync_folder(path.parent().unwrap_or(Path::new("/")))
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    let synced = File::open(folder).and_then(|open| open.sync_all());
    synced.map_err(Error::io(format!("sync {}", folder.display())))
}

/// Whether it is there. That it can't be looked at is no answer.
pub(crate) fn is_there(path: &Path) -> Result<bool, Error> {
    path.try_exists().map_err(Error::io(format!("look at {}", path.display())))
}

/// What is in it; none if it isn't there. That it can't be read is no answer.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(Error::Io { what: format!("read {}", path.display()), why }),
    }
}

/// Removes a file; that it isn't there is no error.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { what: format!("remove {}", path.display()), why: e })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The end of a file, at most so many bytes of it; nothing if it can't be read.
pub(crate) fn tail(path: &Path, bytes_max: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
        let mut end = Vec::new();
        file.take(bytes_max).read_to_end(&mut end)?;
        Ok(end)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// Begins a log anew if it has become larger than this; the last one is kept as `.old`.
pub(crate) fn rotate(log: &Path, bytes_max: u64) -> Result<(), Error> {
    if fs::metadata(log).is_ok_and(|log| log.len() > bytes_max) {
        fs::rename(log, log.with_extension("log.old")).map_err(Error::io("keep the old log"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_disk_that_takes_its_time_keeps_nobody_waiting_but_what_comes_after() {
        let folder = std::env::temp_dir().join(format!("primacy-slow-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (path, (answers, disk)) = (folder.join("x.json"), std::sync::mpsc::channel::<()>());
        let old = path.clone();
        let mut given_up = Box::pin(apart(move || {
            disk.recv().expect("the disk answers");
            replace(&old, b"old")
        }));
        tokio::select! {
            biased;
            _ = &mut given_up => panic!("the disk hasn't answered"),
            () = tokio::task::yield_now() => {}
        }
        drop(given_up);
        let mut later = Box::pin(write(path.clone(), b"new".to_vec()));
        tokio::select! {
            biased;
            () = settled() => panic!("it is still being written"),
            _ = &mut later => panic!("it has overtaken the first"),
            () = tokio::task::yield_now() => {}
        }
        answers.send(()).unwrap();
        later.await.unwrap();
        settled().await;
        assert_eq!(fs::read(&path).unwrap(), b"new");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_there_is_not_made_empty() {
        let folder = std::env::temp_dir().join(format!("primacy-empty-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("2"), "full").unwrap();
        make_empty(folder.clone(), ["1", "2"].map(String::from).to_vec()).await.unwrap();
        let length = |name: &str| fs::metadata(folder.join(name)).unwrap().len();
        assert_eq!((length("1"), length("2")), (0, 4));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_large_log_is_put_away_once_and_only_its_end_is_read() {
        let folder = std::env::temp_dir().join(format!("primacy-files-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (log, old) = (folder.join("x.log"), folder.join("x.log.old"));
        assert_eq!(tail(&log, 4), "");
        rotate(&log, 8).unwrap();
        fs::write(&log, "12345678").unwrap();
        assert_eq!((tail(&log, 4).as_str(), tail(&log, 40).as_str()), ("5678", "12345678"));
        rotate(&log, 8).unwrap();
        assert!(log.exists() && !old.exists());
        for text in ["first log", "second log"] {
            fs::write(&log, text).unwrap();
            rotate(&log, 8).unwrap();
            assert!(!log.exists());
            assert_eq!(fs::read_to_string(&old).unwrap(), text);
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
