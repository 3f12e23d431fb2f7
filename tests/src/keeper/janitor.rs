//! The janitor: waits for the end of the keeper, whatever ends it, and removes what the kernel leaves.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::place;

/// Starts the janitor of the calling keeper. Its stdin is a pipe that closes when the keeper ends.
pub fn start(name: &str) -> Result<Child> {
    Command::new("/proc/self/exe")
        .args(["janitor", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .context("start the janitor")
}

/// Runs as the janitor.
pub fn run(name: &str) -> Result<()> {
    rustix::process::setsid().context("leave the keeper's session")?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    // Processes that are just being killed may still make files, so a first attempt may fail.
    let end = Instant::now() + Duration::from_secs(10);
    while let Err(error) = super::clear(name) {
        if Instant::now() > end {
            return Err(error.context(format!("clean up {}", place::of_lab(name).display())));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
