//! What the agents of a lab have done, given to the core once more.

use std::path::PathBuf;

use anyhow::Result;
use primacy_sim::journal::{Replayed, replay};

use crate::network::NODES;
use crate::place;

/// Replays the journals of a lab's agents, as far back as they go.
///
/// # Errors
/// One that can't be read, or that makes no sense.
pub fn of_lab(name: &str) -> Result<Replayed> {
    let folders = NODES.map(|host| place::of_lab(name).join(host.to_string()).join("postgres/data.run"));
    let files =
        folders.iter().flat_map(|folder| ["journal.old", "journal.jsonl"].map(|file| folder.join(file)));
    let files: Vec<PathBuf> = files.filter(|file| file.is_file()).collect();
    replay(&files, false)
}
