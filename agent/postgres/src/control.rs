//! What `pg_control` says, by way of `pg_controldata`.

use crate::{Error, Instant, Position, Settings};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// The part of it that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    pub system_id: u64,
    /// Shut down in order.
    pub clean: bool,
    /// The latest checkpoint record.
    pub checkpoint: Position,
    /// Where its recovery would begin.
    pub redo: Position,
    /// Recovery must reach at least this; zero if there is none.
    pub recovery_end: Position,
    /// Bytes in a WAL segment.
    pub segment: u64,
    /// It was at rest as a primary: there is nothing to recover.
    pub at_rest: bool,
    /// Each change of a page is in the WAL, also of its hints; or pages have checksums, which need the same.
    pub logs_hints: bool,
    /// After a checkpoint pages go into the WAL as a whole.
    pub full_pages: bool,
}

/// Its size, whatever it holds.
const BYTES: u64 = 8192;

/// What `pg_controldata` says about a file that it goes on to print all the same.
const UNTRUSTWORTHY: &str = "Calculated CRC checksum does not match";

impl Settings {
    pub(crate) async fn control(&self, by: Instant) -> Result<Control, Error> {
        let path = self.control_path();
        let damaged = |what: &str| Error::Unfit(format!("{}: {what}", path.display()));
        self.intact_control(by).await?.map_err(damaged)
    }

    pub(crate) fn control_path(&self) -> PathBuf {
        self.data_dir.join("global/pg_control")
    }

    /// The same; or what is wrong with the file itself, which won't go away by looking again.
    pub(crate) async fn intact_control(&self, by: Instant) -> Result<Result<Control, &'static str>, Error> {
        let path = self.control_path();
        let file = fs::metadata(&path).map_err(Error::io(format!("look at {}", path.display())))?;
        if file.len() < BYTES {
            return Ok(Err("it has been cut short"));
        }
        let said = self.program("pg_controldata").arg("-D").arg(&self.data_dir).run(by).await?;
        if said.contains(UNTRUSTWORTHY) {
            return Ok(Err("its checksum is wrong"));
        }
        let control = parse(&said);
        control.map(Ok).ok_or_else(|| Error::Unfit("pg_controldata says something unknown".to_owned()))
    }
}

pub(crate) fn parse(text: &str) -> Option<Control> {
    let fields: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.trim(), value.trim()))
        .collect();
    let number = |key| fields.get(key)?.parse::<u64>().ok();
    let timeline = |key| fields.get(key)?.parse::<u32>().ok();
    let lsn = |key| parse_lsn(fields.get(key)?);
    let is_on = |key| fields.get(key).map(|value| *value == "on");
    let checkpoint_tli = timeline("Latest checkpoint's TimeLineID")?;
    let state = *fields.get("Database cluster state")?;
    Some(Control {
        system_id: number("Database system identifier")?,
        clean: matches!(state, "shut down" | "shut down in recovery"),
        checkpoint: Position { timeline: checkpoint_tli, lsn: lsn("Latest checkpoint location")? },
        redo: Position { timeline: checkpoint_tli, lsn: lsn("Latest checkpoint's REDO location")? },
        recovery_end: Position {
            timeline: timeline("Min recovery ending loc's timeline")?,
            lsn: lsn("Minimum recovery ending location")?,
        },
        segment: number("Bytes per WAL segment").filter(|bytes| is_segment_size(*bytes))?,
        at_rest: state == "shut down",
        logs_hints: is_on("wal_log_hints setting")? || number("Data page checksum version")? > 0,
        full_pages: is_on("Latest checkpoint's full_page_writes")?,
    })
}

/// PostgreSQL has no others, and what is computed from one relies on that.
fn is_segment_size(bytes: u64) -> bool {
    bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)
}

/// `0/30000A0` as a number.
pub(crate) fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    Some(u64::from(u32::from_str_radix(high, 16).ok()?) << 32 | u64::from(u32::from_str_radix(low, 16).ok()?))
}

/// A number as `0/30000A0`.
pub(crate) fn shown(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

/// In JSON, too: a number of 64 bits isn't safe there.
pub(crate) mod lsn_as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
    pub(crate) fn serialize<S: Serializer>(lsn: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::shown(*lsn))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_lsn(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no place in the WAL")))
    }
}

/// What version 15 says, for tests.
#[cfg(test)]
pub(crate) const SAID: &str = "\
pg_control version number:            1300
Database system identifier:           7432156789012345678
Database cluster state:               shut down
Latest checkpoint location:           0/3000028
Latest checkpoint's REDO location:    0/3000028
Latest checkpoint's TimeLineID:       1
Latest checkpoint's full_page_writes: on
Minimum recovery ending location:     0/0
Min recovery ending loc's timeline:   0
wal_log_hints setting:                off
Bytes per WAL segment:                16777216
Data page checksum version:           0
";

#[cfg(test)]
mod tests {
    use super::{SAID, parse, parse_lsn};

    #[test]
    fn the_lines_of_version_15_are_understood() {
        let text = SAID;
        let control = parse(text).unwrap();
        assert!(control.clean);
        assert_eq!((control.system_id, control.checkpoint.lsn), (7_432_156_789_012_345_678, 0x300_0028));
        assert_eq!(parse(&text.replace("REDO", "redo")), None);
        assert!(control.at_rest && control.full_pages && !control.logs_hints);
        let hints = text.replace("setting:                off", "setting:                on");
        let sums = text.replace("checksum version:           0", "checksum version:           1");
        assert!([hints, sums].iter().all(|text| parse(text).unwrap().logs_hints));
        assert!(!parse(&text.replace("shut down", "shut down in recovery")).unwrap().at_rest);
    }

    #[test]
    fn positions_are_two_hexadecimal_numbers() {
        assert_eq!(parse_lsn("1/A0"), Some(0x1_0000_00a0));
        assert_eq!(parse_lsn("1A0"), None);
        assert_eq!(parse_lsn("x/1"), None);
    }
}
