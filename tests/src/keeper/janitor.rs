//! The janitor: waits for the end of the keeper, whatever ends it, and removes what the kernel leaves.
//!
//! The lab's directory is locked until the janitor has ended, so a next lab of this name waits for it instead of
//! losing its files to it.

use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::place;

/// How long the janitor tries. Removing three data directories takes long where many other things run.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the janitor of the calling keeper. Its stdin is a pipe that closes when the keeper ends; its stdout, which it
/// has no other use for, is the lock.
pub fn start(name: &str) -> Result<Child> {
    let lock = File::open(place::of_lab(name)).context("open the lab's directory")?;
    lock.lock().context("lock the lab's directory")?;
    Command::new("/proc/self/exe")
        .args(["janitor", name])
        .stdin(Stdio::piped())
        .stdout(lock)
        .spawn()
        .context("start the janitor")
}

/// Runs as the janitor.
pub fn run(name: &str) -> Result<()> {
    rustix::process::setsid().context("leave the keeper's session")?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    // Processes that are just being killed may still make files, so a first attempt may fail.
    let end = Instant::now() + PATIENCE;
    while let Err(error) = super::remove(name) {
        if Instant::now() > end {
            return Err(error.context(format!("clean up {}", place::of_lab(name).display())));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Waits until the janitor of a lab of this name has ended, if there is one.
pub fn wait_for_end(name: &str) -> Result<()> {
    let Ok(lock) = File::open(place::of_lab(name)) else { return Ok(()) };
    let end = Instant::now() + PATIENCE;
    while lock.try_lock().is_err() {
        if Instant::now() > end {
            bail!("the lab \"{name}\" isn't gone yet");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
