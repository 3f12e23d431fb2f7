//! Where WAL comes from: the settings that change while PostgreSQL runs, in a file of their own. It is rewritten and
//! reloaded, and never needs a restart.

use crate::config::quoted;
use crate::slots::slot_name;
use crate::{Error, Settings, Upstream, files};
use std::fs;

/// The file's name, as it is included.
pub(crate) const SOURCES: &str = "primacy.source.conf";

/// What the file says.
pub(crate) enum Sources<'a> {
    /// No WAL comes from anywhere.
    Closed,
    /// WAL comes from another member.
    Open {
        /// The member.
        source: &'a Upstream,
        /// Through the slot of this one.
        slot: bool,
    },
}

impl Settings {
    /// Says where WAL comes from, for the next reload.
    pub(crate) fn write_sources(&self, sources: &Sources<'_>) -> Result<(), Error> {
        let (conninfo, slot) = match sources {
            Sources::Closed => (String::new(), String::new()),
            Sources::Open { source, slot } => {
                self.write_passfile()?;
                (self.conninfo(source), if *slot { slot_name(&self.name) } else { String::new() })
            }
        };
        let text = format!(
            "primary_conninfo = {}\nprimary_slot_name = {}\nrestore_command = ''\n",
            quoted(&conninfo),
            quoted(&slot)
        );
        let path = self.data_dir.join(SOURCES);
        if fs::read(&path).is_ok_and(|known| known == text.as_bytes()) {
            return Ok(());
        }
        files::replace(&path, text.as_bytes())
    }
}
