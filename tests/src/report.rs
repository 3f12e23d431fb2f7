//! An outcome, for people and as JSON.

use std::fmt::Write as _;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::client::{Ack, Clients, Says, Writer};
use crate::faults::Outcome;
use crate::network::{Host, NODES};
use crate::place;
use crate::record::Way;
use crate::time::Moment;

/// The columns of the picture of writes.
const PICTURE: usize = 64;

/// What a person wants to read about an outcome; lines of at most 80 columns.
pub fn text(outcome: &Outcome) -> String {
    let mut out = String::new();
    let fault = outcome.fault_at();
    let _ = writeln!(out, "{}  {}", outcome.id, outcome.title);
    for (at, what) in story(outcome) {
        let what: String = what.chars().take(66).collect();
        let _ = writeln!(out, "  {:>8.3} s  {what}", at.since(fault));
    }
    out.push_str(&picture(outcome));
    let _ = writeln!(out, "  {}", summary(outcome));
    if !outcome.ways.is_empty() {
        let _ = writeln!(out, "  followed anew: {}", ways(outcome));
    }
    for problem in &outcome.problems {
        let _ = writeln!(out, "  PROBLEM: {problem}");
    }
    out
}

/// Outage, loss, writers and rejoin in one line.
pub fn summary(outcome: &Outcome) -> String {
    let seconds = |value: Option<f64>| value.map_or_else(|| "no end".to_string(), |s| format!("{s:.2} s"));
    let writers = if outcome.two_writers.instants == 0 { "never" } else { "SEEN" };
    format!(
        "outage {}, {} of {} rows lost, two writers {writers}, healthy in {}",
        seconds(outcome.outage.longest.seconds()),
        outcome.loss.rows,
        outcome.loss.acked,
        seconds(outcome.rejoin_seconds()),
    )
}

/// What happened, in order of time.
fn story(outcome: &Outcome) -> Vec<(Moment, String)> {
    let mut lines: Vec<(Moment, String)> = outcome.marks.iter().map(|m| (m.at, m.what.clone())).collect();
    let fault = outcome.fault_at();
    for reign in &outcome.reigns {
        if reign.from > fault {
            lines.push((reign.from, format!("{} says it is the primary", reign.host)));
        }
        if reign.to > fault && outcome.end.since(reign.to) > 1.0 {
            lines.push((reign.to, format!("{} says so for the last time", reign.host)));
        }
    }
    for (host, timeline, first, last) in runs(&outcome.acks) {
        if first > fault {
            lines.push((first, format!("first write on {host}, timeline {timeline}")));
        }
        if last > fault && outcome.end.since(last) > 1.0 {
            lines.push((last, format!("last write on {host}, timeline {timeline}")));
        }
    }
    let gap = outcome.outage.longest;
    let written_before = outcome.acks.iter().any(|ack| ack.acked <= gap.from);
    if let Some(to) = gap.to.filter(|to| written_before && to.since(gap.from) > 0.2) {
        lines.push((to, format!("writes go on after an outage of {:.3} s", to.since(gap.from))));
    }
    if let Some(at) = outcome.healthy_at.filter(|at| *at > fault) {
        lines.push((at, "three nodes streaming".into()));
    }
    lines.sort_by_key(|(at, _)| *at);
    lines
}

/// First and last acknowledgement of each node on each timeline.
fn runs(acks: &[Ack]) -> Vec<(Host, u32, Moment, Moment)> {
    let mut found: Vec<(Host, u32, Moment, Moment)> = Vec::new();
    for ack in acks {
        match found.iter_mut().find(|run| (run.0, run.1) == (ack.host, ack.timeline)) {
            Some(run) => (run.2, run.3) = (run.2.min(ack.acked), run.3.max(ack.acked)),
            None => found.push((ack.host, ack.timeline, ack.acked, ack.acked)),
        }
    }
    found
}

/// A row of blocks per node: when it acknowledged writes, full for the steady client, half for the pinned one only.
fn picture(outcome: &Outcome) -> String {
    let (from, to) = (outcome.fault_at().minus(Duration::from_secs(1)), outcome.end);
    let width = (to.0 - from.0).max(1);
    let column = |at: Moment| ((at.0 - from.0).max(0) as usize * PICTURE / width as usize).min(PICTURE - 1);
    let mut out = String::new();
    for host in NODES {
        let mut cells = ['·'; PICTURE];
        for ack in outcome.acks.iter().filter(|ack| ack.host == host && ack.acked >= from) {
            let cell = &mut cells[column(ack.acked)];
            *cell = match (ack.writer, *cell) {
                (Writer::Steady, _) | (Writer::Pinned, '█') => '█',
                (Writer::Pinned, _) => '▄',
            };
        }
        let _ = writeln!(out, "  {host:<10}  {}", cells.iter().collect::<String>());
    }
    let mut ruler = [' '; PICTURE];
    for mark in &outcome.marks {
        ruler[column(mark.at)] = '▲';
    }
    let scale = format!("{:.1} s", outcome.end.since(outcome.fault_at()));
    let ruler: String = ruler.iter().collect();
    let _ = writeln!(out, "  {:<10}  {}", scale, ruler.trim_end());
    out
}

/// The outcome as JSON.
pub fn json(outcome: &Outcome) -> serde_json::Value {
    let mut value = serde_json::to_value(outcome).expect("an outcome is JSON");
    value["outage_seconds"] = json!(outcome.outage.longest.seconds());
    value["rejoin_seconds"] = json!(outcome.rejoin_seconds());
    value["fault_at"] = json!(outcome.fault_at());
    value["passed"] = json!(outcome.problems.is_empty());
    value
}

/// Writes the JSON to a directory under this name; returns the file.
pub fn save(outcome: &Outcome, directory: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let path = directory.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(&json(outcome))?;
    fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    place::give_to_owner(directory);
    Ok(path)
}

/// Which nodes followed anew, and the hardest way each of them has gone.
fn ways(outcome: &Outcome) -> String {
    let each = outcome.ways.iter().map(|(host, way)| format!("{host} by {}", way.word()));
    each.collect::<Vec<_>>().join(", ")
}

/// What the columns of [`row`] are.
pub const COLUMNS: &str = "\
| fault | runs | outage, median | fastest | slowest | rows lost | two writers | return | healthy in, median | fastest | slowest | problems |
|---|--:|--:|--:|--:|--:|---|---|--:|--:|--:|--:|";

/// Several outcomes of one fault as a row of a table.
pub fn row(id: &str, outcomes: &[Outcome]) -> String {
    let outage = spread(outcomes.iter().map(|outcome| outcome.outage.longest.seconds()));
    let healthy = spread(outcomes.iter().map(Outcome::rejoin_seconds));
    let lost: Vec<String> = outcomes.iter().map(|outcome| outcome.loss.rows.to_string()).collect();
    let seen = outcomes.iter().filter(|outcome| outcome.two_writers.instants > 0).count();
    let writers = if seen == 0 { "never".to_string() } else { format!("SEEN {seen} times") };
    let hardest = |outcome: &Outcome| outcome.ways.iter().map(|(_, way)| *way).max();
    let mut ways: Vec<Way> = outcomes.iter().filter_map(hardest).collect();
    ways.sort();
    ways.dedup();
    let ways: Vec<&str> = ways.into_iter().map(Way::word).collect();
    let problems: usize = outcomes.iter().map(|outcome| outcome.problems.len()).sum();
    let runs = outcomes.len();
    let (lost, ways) = (lost.join(", "), if ways.is_empty() { "–".into() } else { ways.join(", ") });
    format!("| {id} | {runs} | {outage} | {lost} | {writers} | {ways} | {healthy} | {problems} |")
}

/// Median, fastest and slowest, as cells. What has no end is slower than all others.
fn spread(seconds: impl Iterator<Item = Option<f64>>) -> String {
    let mut seconds: Vec<f64> = seconds.map(|seconds| seconds.unwrap_or(f64::INFINITY)).collect();
    seconds.sort_by(f64::total_cmp);
    let cell = |at: usize| match seconds.get(at) {
        None => "–".to_string(),
        Some(seconds) if seconds.is_finite() => format!("{seconds:.2} s"),
        Some(_) => "no end".to_string(),
    };
    format!("{} | {} | {}", cell(seconds.len() / 2), cell(0), cell(seconds.len().saturating_sub(1)))
}

/// A line that says how the cluster is at this moment, kept up to date on the terminal while it lives.
#[derive(Debug)]
pub struct Live {
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Live {
    /// Starts showing what these clients see. Without a terminal only changes are printed.
    pub fn start(clients: &Clients) -> Live {
        let (stop, stopped) = std::sync::mpsc::channel();
        let viewer = clients.viewer();
        let show = move || {
            let (start, terminal) = (Moment::now(), std::io::stdout().is_terminal());
            let mut shown = String::new();
            while stopped.recv_timeout(Duration::from_millis(100)).is_err_and(|e| e == TIMEOUT) {
                let Some((nodes, last)) = viewer.view() else { break };
                let silent = last.map(|ack| Moment::now().since(ack.acked));
                let state = live_line(&nodes.0, last, silent);
                let age = silent.filter(|silent| *silent > 0.3).map(|s| format!(" for {s:.1} s"));
                let line =
                    format!("  {:5.1} s  {state}{}", Moment::now().since(start), age.unwrap_or_default());
                match terminal {
                    true => print!("\r\x1b[K{line}"),
                    false if state != shown => println!("{line}"),
                    false => {}
                }
                shown = state;
                let _ = std::io::stdout().flush();
            }
            if terminal {
                print!("\r\x1b[K");
            }
        };
        Live { stop, thread: Some(std::thread::spawn(show)) }
    }
}

const TIMEOUT: std::sync::mpsc::RecvTimeoutError = std::sync::mpsc::RecvTimeoutError::Timeout;

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn live_line(nodes: &[(Host, Option<Says>)], last: Option<Ack>, silent: Option<f64>) -> String {
    let word = |says: &Option<Says>| match says {
        None => "-".to_string(),
        Some(says) if says.primary => "PRIMARY".to_string(),
        Some(says) if says.streaming => "streaming".to_string(),
        Some(says) => says.state.chars().take(9).collect(),
    };
    let states: String = nodes.iter().map(|(host, says)| format!("{host} {:<10}", word(says))).collect();
    let writes = match (last, silent) {
        (Some(last), Some(silent)) if silent <= 0.3 => format!("writes go to {}", last.host),
        (Some(_), _) => "NO WRITES".to_string(),
        (None, _) => "no writes yet".to_string(),
    };
    format!("{states} {writes}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Mark;
    use crate::judge;

    fn outcome() -> Outcome {
        let ack = |millis: i64, host, timeline| Ack {
            id: millis,
            writer: Writer::Steady,
            host: Host(host),
            timeline,
            position: 0,
            sent: Moment(millis * 1_000 - 500),
            acked: Moment(millis * 1_000),
        };
        let mut acks: Vec<Ack> = (0..1_000).step_by(25).map(|at| ack(at, 1, 1)).collect();
        acks.extend((6_000..8_000).step_by(25).map(|at| ack(at, 2, 2)));
        let (fault, end) = (Moment(980_000), Moment(8_000_000));
        Outcome {
            id: "B5".into(),
            title: "node death".into(),
            marks: vec![Mark { at: fault, what: "h1 lost".into(), repair: false }],
            outage: judge::outage(&acks, fault, end),
            loss: judge::Loss { acked: acks.len(), ..Default::default() },
            two_writers: judge::two_writers(&acks, |_| true),
            reigns: Vec::new(),
            overlaps: Vec::new(),
            ways: vec![(Host(1), Way::Clone)],
            healthy_at: Some(Moment(7_000_000)),
            unknown: 1,
            problems: vec!["for example".into()],
            end,
            acks,
        }
    }

    #[test]
    fn the_text_tells_the_story_within_80_columns() {
        let text = text(&outcome());
        for part in [
            "first write on h2, timeline 2",
            "followed anew: h1 by clone",
            "outage 5.03 s",
            "0 of 120 rows lost",
            "PROBLEM: for example",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn a_row_has_the_spread_of_all_runs() {
        let never = Outcome { healthy_at: None, ways: Vec::new(), ..outcome() };
        assert_eq!(
            row("B5", &[outcome(), never]),
            "| B5 | 2 | 5.03 s | 5.03 s | 5.03 s | 0, 0 | never | clone | no end | 6.02 s | no end | 2 |"
        );
        assert_eq!(row("B5", &[outcome()]).matches('|').count() * 2, COLUMNS.matches('|').count());
    }

    #[test]
    fn the_json_has_the_figures_and_the_judgement() {
        let value = json(&outcome());
        assert_eq!(value["outage_seconds"], json!(5.025));
        assert_eq!((&value["passed"], &value["two_writers"]["instants"]), (&json!(false), &json!(0)));
        assert!(value.get("acks").is_none());
    }

    #[test]
    fn the_live_line_fits_a_terminal() {
        let says = |primary| Some(Says { primary, streaming: !primary, ..Default::default() });
        let nodes = [(Host(1), says(true)), (Host(2), says(false)), (Host(3), None)];
        let line = live_line(&nodes, outcome().acks.last().copied(), Some(0.1));
        assert_eq!(line, "h1 PRIMARY   h2 streaming h3 -          writes go to h2");
    }
}
