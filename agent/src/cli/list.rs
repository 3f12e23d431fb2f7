//! `primacy list` and `primacy topology`.

use super::{Code, Failure, Found, Output, find, print, settings};
use crate::instance::progress::Shown;
use crate::patroni;
use comfy_table::{CellAlignment, Table, presets};
use serde::Deserialize;
use serde_json::{Value, json};

/// How the members are ordered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    ByName,
    LeaderFirst,
}

pub(super) async fn list(shown: &super::Shown, order: Order) -> Result<(), Failure> {
    let settings = settings(&shown.cluster.config)?;
    let found = find(&settings).await?;
    let rows = rows(&settings.scope, &found, order);
    let text = match shown.output {
        Output::Pretty => table(&settings.scope, &rows, order),
        Output::Json => Value::Array(rows).to_string(),
        Output::Yaml => {
            serde_saphyr::to_string(&rows).map_err(|error| Failure(Code::NotDone, error.to_string()))?
        }
    };
    print(text.trim_end())
}

const COLUMNS: [&str; 11] = [
    "Member",
    "Host",
    "Role",
    "State",
    "TL",
    "Receive LSN",
    "Receive Lag",
    "Replay LSN",
    "Replay Lag",
    "Progress",
    "Guard",
];

/// A map for each member, with patronictl's names. Lags are in megabytes.
fn rows(scope: &str, found: &Found, order: Order) -> Vec<Value> {
    let leader = found.contents.leader.as_ref().map(|(name, _)| name.as_str());
    let cluster = patroni::cluster(scope, &found.contents, leader, Some(found.end));
    let mut members = cluster["members"].as_array().cloned().unwrap_or_default();
    let leads = |member: &Value| member["role"] == "leader";
    if order == Order::LeaderFirst {
        members.sort_by_key(|member| !leads(member));
    }
    let row = |member: &Value| {
        let host = match (member["host"].as_str(), member["port"].as_u64()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (_, _) => String::new(),
        };
        let role = if leads(member) { "Leader" } else { "Replica" };
        let (name, state) = (&member["name"], &member["state"]);
        let mut row = json!({"Cluster": scope, "Member": name, "Host": host, "Role": role, "State": state});
        row["TL"] = member["timeline"].clone();
        for (field, title) in [("progress", "Progress"), ("guard", "Guard")] {
            if !member[field].is_null() {
                row[title] = member[field].clone();
            }
        }
        if !leads(member) {
            for kind in ["receive", "replay"] {
                let title = if kind == "receive" { "Receive" } else { "Replay" };
                row[format!("{title} LSN")] = member[format!("{kind}_lsn")].clone();
                row[format!("{title} Lag")] = match member[format!("{kind}_lag")].as_u64() {
                    Some(bytes) => json!(bytes.div_ceil(1 << 20)),
                    None => json!("unknown"),
                };
            }
        }
        row
    };
    members.iter().map(row).collect()
}

fn table(scope: &str, rows: &[Value], order: Order) -> String {
    let mut table = Table::new();
    // Progress is worth a column only where there is any, and a guard where one is weak.
    let is_shown = |column: &&str| match *column {
        "Progress" | "Guard" => rows.iter().any(|row| !row[*column].is_null()),
        _ => true,
    };
    let columns: Vec<&str> = COLUMNS.into_iter().filter(is_shown).collect();
    table.load_style(presets::ASCII_FULL_CONDENSED).set_header(&columns);
    for row in rows {
        let cells = columns.iter().map(|column| match &row[*column] {
            Value::Null => String::new(),
            Value::String(name)
                if *column == "Member" && order == Order::LeaderFirst && row["Role"] != "Leader" =>
            {
                format!("+ {name}")
            }
            Value::String(text) => text.clone(),
            progress @ Value::Object(_) => in_a_line(progress),
            other => other.to_string(),
        });
        table.add_row(cells);
    }
    for column in [4, 6, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("Cluster: {scope}\n{table}")
}

/// What another version of the agent has written may not be known here.
fn in_a_line(progress: &Value) -> String {
    match Shown::deserialize(progress) {
        Ok(progress) => progress.to_string(),
        Err(_) => progress.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::directory::{Contents, Member};
    use primacy_core::Lsn;
    use primacy_core::store::View;

    #[test]
    fn the_tree_is_drawn_for_people_only() {
        let members = ["a", "b"].map(|name| (name.to_owned(), Member::default()));
        let leader = Some(("b".to_owned(), None));
        let contents = Contents { members: members.into(), leader, ..Contents::default() };
        let rows = rows("x", &Found { contents, end: Lsn(0), view: View::default() }, Order::LeaderFirst);
        assert_eq!(rows.iter().map(|row| &row["Member"]).collect::<Vec<_>>(), ["b", "a"]);
        let drawn = table("x", &rows, Order::LeaderFirst);
        assert!(drawn.contains("| b ") && drawn.contains("| + a "), "{drawn}");
        assert!(table("x", &rows, Order::ByName).contains("| a "));
    }

    #[test]
    fn progress_has_a_column_while_there_is_any() {
        let copies = json!({"what": "copy from another member", "seconds": 9, "done_bytes": 440_401_920,
            "total_bytes": 1_048_576_000, "percent": 42, "bytes_per_second": 36_700_160, "eta_seconds": 16});
        let drawn = |progress: &Value| {
            let mut contents = Contents::default();
            let key = json!({"state": "creating replica", "progress": progress}).to_string();
            contents.see_member("a", key.as_bytes());
            contents.see_member("b", b"{}");
            let rows = rows("x", &Found { contents, end: Lsn(0), view: View::default() }, Order::ByName);
            assert_eq!((&rows[0]["Progress"], &rows[1]["Progress"]), (progress, &Value::Null));
            table("x", &rows, Order::ByName)
        };
        let line = "| creating replica |";
        let text = drawn(&copies);
        assert!(
            text.contains(line) && text.contains("copy from another member, 42 %, 35 MB/s, 16 s left"),
            "{text}"
        );
        let text = drawn(&json!({"percent": 3}));
        assert!(text.contains("{\"percent\":3}"), "of another version: {text}");
        let text = drawn(&Value::Null);
        assert!(text.contains(line) && !text.contains("Progress"), "{text}");
    }
}
