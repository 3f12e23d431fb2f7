//! What survives a crash of the agent: a file in the data directory that describes this copy of the data.
//!
//! A file of the same form in the run directory keeps the highest epoch seen, also without a data directory.

use primacy_core::instance::Saved;
use primacy_postgres::files;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The file's name in both places.
pub const FILE: &str = "primacy.json";

/// Reads what was saved last. A copy that is being mended is described by its marker: what lies inside may be another
/// member's by now, and each copy has a name of its own.
///
/// # Errors
/// If a file is there and can't be read: going on as if nothing had ever been seen would be wrong.
pub fn load(data_dir: &Path, run_dir: &Path) -> io::Result<Saved> {
    let outside = read(run_dir)?.unwrap_or_default();
    let mut saved = match read_file(&marker(data_dir))? {
        // Its own description is the last that is written of a copy that was mended, before the marker goes.
        Some(mending) => {
            read(data_dir).ok().flatten().filter(|copy| copy.copy == mending.copy).unwrap_or(mending)
        }
        None => read(data_dir)?.unwrap_or_default(),
    };
    saved.highest = saved.highest.max(outside.highest);
    Ok(saved)
}

/// Makes it durable in one of the places.
///
/// # Errors
/// The old file is still there then.
pub async fn store(dir: &Path, saved: &Saved) -> io::Result<()> {
    files::write(dir.join(FILE), serde_json::to_vec(saved)?).await.map_err(io::Error::other)
}

fn write(path: &Path, saved: &Saved) -> io::Result<()> {
    files::replace(path, &serde_json::to_vec(saved)?).map_err(io::Error::other)
}

/// What lies beside a data directory that is being mended. Inside, `pg_rewind` would replace it by its source's.
fn marker(data_dir: &Path) -> PathBuf {
    let mut name = data_dir.as_os_str().to_owned();
    name.push(".mending");
    PathBuf::from(name)
}

/// Makes durable that the copy is about to be mended, and as what it will come out.
///
/// # Errors
/// Nothing is marked then.
pub fn begin_mending(data_dir: &Path, saved: &Saved) -> io::Result<()> {
    write(&marker(data_dir), saved)
}

/// The copy is whole, or isn't there any more.
///
/// # Errors
/// It may be marked still.
pub fn forget_mending(data_dir: &Path) -> io::Result<()> {
    let marker = marker(data_dir);
    match std::fs::remove_file(&marker) {
        Ok(()) => files::sync_parent(&marker).map_err(io::Error::other),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// What is saved in one of the places, if anything.
///
/// # Errors
/// If it is there and can't be read.
pub fn read(dir: &Path) -> io::Result<Option<Saved>> {
    read_file(&dir.join(FILE))
}

fn read_file(path: &Path) -> io::Result<Option<Saved>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            let shown = path.display();
            let why = format!("{shown} makes no sense: {error}. {}", remedy(path));
            io::Error::new(ErrorKind::InvalidData, why)
        }),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("read {}: {error}", path.display()))),
    }
}

/// What to do about a file that makes no sense.
fn remedy(path: &Path) -> String {
    let shown = path.display();
    if path.file_name().is_some_and(|name| name == FILE) {
        let folder = path.parent().unwrap_or(path).display();
        if path.with_file_name("PG_VERSION").exists() {
            return format!(
                "Put {shown} back from a backup of this copy of the data; or, if another member has all that matters, \
                 stop the agent, move {folder} away and start it: it makes a new copy"
            );
        }
        return format!(
            "If the copy of the data is in order, remove {shown}: the highest epoch is read from the copy and from the \
             store then"
        );
    }
    format!(
        "It says that the copy beside it is half rewound: stop the agent, move {} and {shown} away and start it: it \
         makes a new copy",
        path.with_extension("").display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use primacy_core::{CopyId, Epoch, Nonce};

    #[tokio::test(flavor = "current_thread")]
    async fn the_highest_epoch_outlives_the_data_directory() {
        let dir = std::env::temp_dir().join(format!("primacy-saved-{}", std::process::id()));
        let (data, run) = (dir.join("data"), dir.join("run"));
        std::fs::create_dir_all(&run).expect("a folder");
        assert_eq!(load(&data, &run).expect("nothing yet"), Saved::default());
        let older = Saved { highest: Epoch(7), ..Saved::default() };
        store(&run, &older).await.expect("stored");
        assert_eq!(load(&data, &run).expect("the highest"), older);
        std::fs::create_dir_all(&data).expect("a folder");
        let lineage = vec![(Epoch(1), Nonce(5))];
        let copy = Saved { copy: CopyId(1), lineage, highest: Epoch(1), mending: false };
        store(&data, &copy).await.expect("stored");
        let whole = Saved { highest: Epoch(7), ..copy };
        assert_eq!(load(&data, &run).expect("both"), whole);
        let mending = Saved { copy: CopyId(2), mending: true, ..whole.clone() };
        begin_mending(&data, &mending).expect("marked");
        assert_eq!(load(&data, &run).expect("the marker"), mending, "whatever lies inside");
        let mended = Saved { mending: false, ..mending };
        store(&data, &mended).await.expect("stored");
        assert_eq!(
            load(&data, &run).expect("its own"),
            mended,
            "whoever mended it was killed before the marker went"
        );
        store(&data, &whole).await.expect("stored");
        forget_mending(&data).expect("whole again");
        forget_mending(&data).expect("and again");
        assert_eq!(load(&data, &run).expect("both"), whole);
        std::fs::write(data.join(FILE), "{").expect("garbage");
        let error = load(&data, &run).expect_err("garbage").to_string();
        assert!(error.contains("primacy.json makes no sense"), "{error}");
        std::fs::write(data.join("PG_VERSION"), "15").expect("as PostgreSQL has it");
        for (file, remedy) in [
            (data.join(FILE), format!("move {} away", data.display())),
            (run.join(FILE), format!("remove {}", run.join(FILE).display())),
            (marker(&data), format!("move {} and {}.mending away", data.display(), data.display())),
        ] {
            let _ = std::fs::remove_file(data.join(FILE));
            std::fs::write(&file, "{").expect("garbage");
            let error = load(&data, &run).expect_err("garbage").to_string();
            assert!(error.contains(&remedy), "{error}");
            std::fs::remove_file(&file).expect("as it was");
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
