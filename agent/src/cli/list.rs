//! `primacy list` and `primacy topology`.

use super::{Code, Failure, Found, Output, Shown, find, settings};
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
        Output::Pretty => table(&settings.scope, &rows),
        Output::Json => Value::Array(rows).to_string(),
        Output::Yaml => {
            serde_saphyr::to_string(&rows).map_err(|error| Failure(Code::NotDone, error.to_string()))?
        }
    };
    println!("{}", text.trim_end());
    Ok(())
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
    let cluster = patroni::cluster(scope, &found.contents, found.end);
    let mut members = cluster["members"].as_array().cloned().unwrap_or_default();
    let leads = |member: &Value| member["role"] == "leader";
    if order == Order::LeaderFirst {
        members.sort_by_key(|member| !leads(member));
    }
    let row = |member: &Value| {
        let name = member["name"].as_str().unwrap_or_default();
        let below = order == Order::LeaderFirst && !leads(member);
        let name = if below { format!("+ {name}") } else { name.to_owned() };
        let host = match (member["host"].as_str(), member["port"].as_u64()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (_, _) => String::new(),
        };
        let role = if leads(member) { "Leader" } else { "Replica" };
        let mut row =
            json!({"Cluster": scope, "Member": name, "Host": host, "Role": role, "State": member["state"]});
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

fn table(scope: &str, rows: &[Value]) -> String {
    let mut table = Table::new();
    // A guard is worth a column only where one is weak.
    let any_weak = rows.iter().any(|row| !row["Guard"].is_null());
    let columns = if any_weak { &COLUMNS[..] } else { &COLUMNS[..COLUMNS.len() - 1] };
    table.load_style(presets::ASCII_FULL_CONDENSED).set_header(columns);
    for row in rows {
        let cells = columns.iter().map(|column| match &row[*column] {
            Value::Null => String::new(),
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
