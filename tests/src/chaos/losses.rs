//! What members report in the store of the rows they have discarded.

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::faults::Store;
use crate::judge::Tail;

/// Where reports lie.
const PREFIX: &str = "/service/lab/primacy/losses/";

/// A row's place in the WAL is noted before its commit is written, which may come that much later.
const COMMIT_BYTES: u64 = 8_192;

/// A report, as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Its key, without what all have in common.
    pub key: String,
    /// The reign whose rows were discarded.
    pub epoch: Option<u64>,
    /// The discarded range.
    pub range: Option<(u64, u64)>,
    /// The whole.
    pub value: Value,
}

/// All reports that are in the store.
pub fn reports(store: &Store) -> Result<Vec<Report>> {
    let all = store.values(PREFIX)?;
    Ok(all.into_iter().map(|(key, value)| read(&key, &value)).collect())
}

fn read(key: &str, text: &str) -> Report {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into()));
    let lsn = |name: &str| value[name].as_u64().or_else(|| value[name]["lsn"].as_u64());
    let epoch = value["epoch"].as_u64().or_else(|| value["from"]["epoch"].as_u64());
    Report { key: key.trim_start_matches(PREFIX).to_owned(), epoch, range: lsn("from").zip(lsn("to")), value }
}

/// Whether the rows lost of a reign lie within what was reported of it: `None` if nothing was.
pub fn covers(reports: &[Report], tail: &Tail) -> Option<bool> {
    let of_reign = reports.iter().filter(|report| report.epoch == Some(u64::from(tail.epoch)));
    let ranges: Vec<(u64, u64)> = of_reign.filter_map(|report| report.range).collect();
    let from = ranges.iter().map(|(from, _)| *from).min()?;
    let to = ranges.iter().map(|(_, to)| *to).max()?;
    Some(tail.positions.0 + COMMIT_BYTES >= from && tail.positions.1 <= to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Host;
    use crate::time::Moment;

    #[test]
    fn lost_rows_must_lie_within_the_reported_range() {
        let tail = |first, last| Tail {
            epoch: 3,
            host: Host(1),
            rows: 2,
            from: Moment(1),
            to: Moment(2),
            positions: (first, last),
            lapse: None,
            holes: 0,
        };
        let report =
            read("/service/lab/primacy/losses/h1-3", r#"{"epoch":3,"from":100000,"to":{"lsn":200000}}"#);
        assert_eq!((report.key.as_str(), report.range), ("h1-3", Some((100_000, 200_000))));
        let reports = [report];
        assert_eq!(covers(&reports, &tail(99_000, 190_000)), Some(true));
        assert_eq!(covers(&reports, &tail(50_000, 190_000)), Some(false));
        assert_eq!(covers(&reports, &tail(150_000, 200_001)), Some(false));
        assert_eq!(covers(&reports, &Tail { epoch: 4, ..tail(150_000, 160_000) }), None);
    }
}
