//! What members report in the store of the WAL they have discarded.
//!
//! A report names the place where a copy left the elected history, its own end, and how many transactions were
//! committed between them. Members that were not there to discard anything report nothing.

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::faults::Store;
use crate::judge::Tail;

/// Where reports lie.
const PREFIX: &str = "/service/lab/primacy/losses/";

/// A row's place in the WAL is noted before its commit is written, which may come that much later.
const COMMIT_BYTES: u64 = 8_192;

/// A report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Who has discarded it.
    pub member: String,
    /// From where: timeline and byte.
    pub from: (u32, u64),
    /// Up to where.
    pub to: (u32, u64),
    /// How many transactions were committed there.
    pub transactions: u64,
}

/// All reports that are in the store and can be understood.
pub fn reports(store: &Store) -> Result<Vec<Report>> {
    let all = store.values(PREFIX)?;
    Ok(all.iter().filter_map(|(_, text)| read(text)).collect())
}

fn read(text: &str) -> Option<Report> {
    let value: Value = serde_json::from_str(text).ok()?;
    Some(Report {
        member: value["member"].as_str()?.to_owned(),
        from: place(&value["fork"])?,
        to: place(&value["end"])?,
        transactions: value["transactions"].as_u64()?,
    })
}

fn place(value: &Value) -> Option<(u32, u64)> {
    let (high, low) = value["lsn"].as_str()?.split_once('/')?;
    let half = |text| u64::from_str_radix(text, 16).ok();
    Some((value["timeline"].as_u64()? as u32, (half(high)? << 32) | half(low)?))
}

/// Whether the rows lost of a reign are what was reported of it: `None` if nothing was.
pub fn covers(reports: &[Report], tail: &Tail) -> Option<bool> {
    let of_reign = |report: &&Report| (report.from.0..=report.to.0).contains(&tail.epoch);
    let of_reign: Vec<&Report> = reports.iter().filter(of_reign).collect();
    let from = of_reign.iter().map(|report| report.from.1).min()?;
    let to = of_reign.iter().map(|report| report.to.1).max()?;
    let transactions: u64 = of_reign.iter().map(|report| report.transactions).sum();
    let (first, last) = tail.positions;
    Some(first + COMMIT_BYTES >= from && last <= to && tail.rows as u64 <= transactions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Host;
    use crate::time::Moment;

    const REPORT: &str = r#"{"member":"h1","at":"2026","fork":{"timeline":3,"lsn":"0/186A0"},
        "end":{"timeline":3,"lsn":"0/30D40"},"bytes":100000,"transactions":2,"listed":[],"missing":[]}"#;

    fn tail(first: u64, last: u64) -> Tail {
        Tail {
            epoch: 3,
            host: Host(1),
            rows: 2,
            from: Moment(1),
            to: Moment(2),
            positions: (first, last),
            lapse: None,
            holes: 0,
        }
    }

    #[test]
    fn lost_rows_must_be_what_was_reported() {
        let report = read(REPORT).expect("a report");
        assert_eq!((report.from, report.to, report.transactions), ((3, 100_000), (3, 200_000), 2));
        let reports = [report];
        assert_eq!(covers(&reports, &tail(99_000, 190_000)), Some(true));
        assert_eq!(covers(&reports, &tail(50_000, 190_000)), Some(false));
        assert_eq!(covers(&reports, &tail(150_000, 200_001)), Some(false));
        assert_eq!(covers(&reports, &Tail { rows: 3, ..tail(150_000, 160_000) }), Some(false));
        assert_eq!(covers(&reports, &Tail { epoch: 4, ..tail(150_000, 160_000) }), None);
    }

    #[test]
    fn a_place_is_two_hexadecimal_numbers() {
        let at = |lsn: &str| place(&serde_json::json!({ "timeline": 1, "lsn": lsn }));
        assert_eq!(at("1/A"), Some((1, 0x1_0000_000A)));
        assert_eq!((at("10"), at("x/1")), (None, None));
    }
}
