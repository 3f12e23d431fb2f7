//! `primacy list` and `primacy topology`.

use super::{Code, Failure, Found, Output, Shown, find, print, settings};
use crate::patroni;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// How the members are ordered.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    ByName,
    LeaderFirst,
}

pub(super) async fn list(shown: &Shown, order: Order) -> Result<(), Failure> {
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

const COLUMNS: [&str; 10] = [
    "Member",
    "Host",
    "Role",
    "State",
    "TL",
    "Receive LSN",
    "Receive Lag",
    "Replay LSN",
    "Replay Lag",
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
        if !member["guard"].is_null() {
            row["Guard"] = member["guard"].clone();
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
    // A guard is worth a column only where one is weak.
    let any_weak = rows.iter().any(|row| !row["Guard"].is_null());
    let columns = if any_weak { &COLUMNS[..] } else { &COLUMNS[..COLUMNS.len() - 1] };
    table.load_style(presets::ASCII_FULL_CONDENSED).set_header(columns);
    for row in rows {
        let cells = columns.iter().map(|column| match &row[*column] {
            Value::Null => String::new(),
            Value::String(name)
                if *column == "Member" && order == Order::LeaderFirst && row["Role"] != "Leader" =>
            {
                format!("+ {name}")
            }
            Value::String(text) => text.clone(),
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
}
