//! `primacy history`: how the primary moved, and what was lost on the way.

use super::{Code, Failure, Found, Output, Shown, find, print, settings};
use crate::instance::losses::Lost;
use crate::patroni;
use comfy_table::{Table, presets};
use serde_json::{Value, json};

const CHANGES: [&str; 5] = ["TL", "LSN", "Reason", "Timestamp", "New Leader"];

const LOSSES: [&str; 3] = ["Member", "Found", "What"];

pub(super) async fn history(shown: &Shown) -> Result<(), Failure> {
    let settings = settings(&shown.cluster.config)?;
    let found = find(&settings).await?;
    let (changes, losses) = (patroni::history(&found.view, &found.contents), losses(&found));
    let text = match shown.output {
        Output::Pretty => tables(&changes, &losses),
        Output::Json => document(&changes, &losses).to_string(),
        Output::Yaml => serde_saphyr::to_string(&document(&changes, &losses))
            .map_err(|error| Failure(Code::NotDone, error.to_string()))?,
    };
    print(text.trim_end())
}

/// What members have published, oldest first. What makes no sense is left out: nothing depends on it.
fn losses(found: &Found) -> Vec<Lost> {
    let notes = found.contents.notes.iter().filter(|(key, _)| key.starts_with("losses/"));
    let mut losses: Vec<Lost> =
        notes.filter_map(|(_, note)| serde_json::from_value(note.clone()).ok()).collect();
    losses.sort_by(|a, b| a.at.cmp(&b.at));
    losses
}

/// With patronictl's names for a change.
fn document(changes: &[Value], losses: &[Lost]) -> Value {
    let named = |change: &Value| -> Value {
        CHANGES.iter().enumerate().map(|(at, name)| ((*name).to_owned(), change[at].clone())).collect()
    };
    json!({"history": changes.iter().map(named).collect::<Vec<_>>(), "losses": losses})
}

fn tables(changes: &[Value], losses: &[Lost]) -> String {
    let table = |header: &[&str]| {
        let mut table = Table::new();
        table.load_style(presets::ASCII_FULL_CONDENSED).set_header(header);
        table
    };
    let mut moved = table(&CHANGES);
    for change in changes {
        moved.add_row((0..CHANGES.len()).map(|at| match &change[at] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }));
    }
    if losses.is_empty() {
        return format!("{moved}\nNo loss is on record");
    }
    let mut lost = table(&LOSSES);
    for Lost { member, at, loss } in losses {
        lost.add_row([member, at, &loss.to_string()]);
    }
    format!("{moved}\nLost:\n{lost}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::Contents;
    use primacy_core::Lsn;
    use primacy_core::store::View;

    #[test]
    fn changes_and_losses_are_shown_for_people_and_for_scripts() {
        let end = json!({"timeline": 1, "lsn": "0/5008A10"});
        let loss = json!({"member": "a", "at": "2026", "fork": {"timeline": 1, "lsn": "0/5000060"}, "end": end,
            "bytes": 35_248, "transactions": 12, "listed": [], "between": null, "prepared": 0, "relations": null,
            "missing": []});
        let notes = [
            ("losses/1-a-5008A10".to_owned(), loss),
            ("losses/2-b-1".to_owned(), json!("garbage")),
            ("volumes/a".to_owned(), json!({})),
        ];
        let history = vec![json!([1, 83_886_176, "why", "then", "b"])];
        let contents = Contents { notes: notes.into(), history, ..Contents::default() };
        let found = Found { contents, end: Lsn(0), view: View::default() };
        let (changes, losses) = (patroni::history(&found.view, &found.contents), losses(&found));
        let drawn = tables(&changes, &losses);
        assert!(drawn.contains("| 1  | 83886176 | why    | then      | b          |"), "{drawn}");
        assert!(drawn.contains("12 transactions in 34 kB of WAL, t1 0/5000060 to t1 0/5008A10"), "{drawn}");
        let document = document(&changes, &losses);
        assert_eq!(document["history"][0]["New Leader"], "b");
        assert_eq!(document["losses"].as_array().map(Vec::len), Some(1));
        assert_eq!(document["losses"][0]["end"], end);
        assert!(tables(&changes, &[]).ends_with("No loss is on record"));
    }
}
