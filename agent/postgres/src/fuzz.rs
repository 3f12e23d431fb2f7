//! Whatever PostgreSQL's programs and files say, reading it neither panics nor takes long.

#[path = "../../fuzz/mutate.rs"]
mod mutate;

use crate::control::{SAID, parse, parse_lsn, shown};
use crate::wal::{begin_of, history, record, segment_name};
use mutate::fuzz;

const HISTORY: &str = "1\t0/3000000\tno recovery target specified\n\n2\t0/5000060\treason\n";

const LINES: [&str; 2] = [
    "rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/03000028, prev 0/02000100, desc: x",
    "rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/03000110, prev 0/030000D8, desc: SWITCH ",
];

#[test]
fn what_pg_controldata_says_is_understood_or_refused() {
    fuzz(&[SAID], |bytes| {
        if let Some(control) = parse(&String::from_utf8_lossy(bytes)) {
            assert!(control.segment.is_power_of_two() && (1 << 20..=1 << 30).contains(&control.segment));
        }
    });
}

#[test]
fn a_history_has_no_more_timelines_than_lines() {
    fuzz(&[HISTORY, ""], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        assert!(history(3, &text).len() <= text.lines().count() + 1);
    });
}

#[test]
fn a_line_of_pg_waldump_ends_behind_where_it_begins() {
    fuzz(&LINES, |bytes| {
        let line = String::from_utf8_lossy(bytes);
        let at = line.split_once("lsn: ").and_then(|(_, at)| parse_lsn(at.split(',').next()?.trim()));
        if let Some(end) = record(&line, 1 << 24) {
            assert!(at.is_some_and(|at| at <= end), "{line}");
        }
    });
}

#[test]
fn places_and_names_of_segments_come_back_as_they_were_written() {
    fuzz(&["FFFFFFFF/FFFFFFFF", "0/3000028", "0000000200000001000000FF"], |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if let Some(lsn) = parse_lsn(&text) {
            assert_eq!(parse_lsn(&shown(lsn)), Some(lsn));
            let begin = lsn & !((1 << 24) - 1);
            assert_eq!(begin_of(&segment_name(1, lsn, 1 << 24), 1 << 24), Some(begin));
        }
        for segment in [1 << 20, 1 << 24, 1 << 30] {
            let _ = begin_of(&text, segment);
        }
    });
}
