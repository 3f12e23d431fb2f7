//! `cargo demo`: a cluster of three real nodes, its birth, the loss of its primary and a switchover, in two minutes.

use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use primacy_tests::faults::{self, Outcome};
use primacy_tests::lab::{Lab, Options, again_as_root, inner_role, is_root};
use primacy_tests::report::{self, Live};
use primacy_tests::{packages, place};

/// What is shown, with a line about it.
const ACTS: [(&str, &str); 3] = [
    ("C1", "Three empty nodes become a cluster: one primary, two streaming standbys."),
    ("B5", "The primary's machine is lost, all at once. It comes back 10 s later."),
    ("C5", "A planned switchover to a named standby."),
];

fn main() -> ExitCode {
    let all: Vec<String> = std::env::args().collect();
    if let Some(inner) = inner_role(&all) {
        return exit(inner.map(|()| true));
    }
    if all.len() > 1 {
        println!(
            "cargo demo: a cluster of three real nodes, its birth, the loss of its primary and a switchover."
        );
        println!("It takes no arguments, installs the Debian packages it needs and cleans up after itself.");
        return if all[1] == "--help" { ExitCode::SUCCESS } else { ExitCode::from(2) };
    }
    exit(demo())
}

fn exit(done: Result<bool>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing happened that must not.
fn demo() -> Result<bool> {
    let installed = packages::install()?;
    if !installed.is_empty() {
        println!("Installed; none of their services runs.\n");
    }
    build()?;
    if !is_root() {
        return again_as_root(&[]);
    }
    let start = Instant::now();
    println!("Three hosts with etcd, an agent and PostgreSQL each, on a network of their own.");
    println!("A client writes 40 rows a second; another one on each host tries to write there alone.\n");
    let options = Options { name: "demo".into(), agent: place::agent(), dynamic: Vec::new() };
    let lab = Lab::start(&options)?;
    let outcomes = acts(&lab).inspect_err(|_| keep_logs(&lab))?;
    let good = outcomes.iter().all(|outcome| outcome.problems.is_empty());
    if !good {
        keep_logs(&lab);
    }
    lab.down()?;
    println!("In short:");
    for outcome in &outcomes {
        println!("  {:<3} {}", outcome.id, short(outcome));
    }
    println!("\nDone in {:.0} s; nothing of it is left on this machine.", start.elapsed().as_secs_f64());
    println!("More: `cargo lab fault` lists faults, `cargo lab fault B6` inflicts one.");
    Ok(good)
}

/// All acts, up to the first one that goes wrong.
fn acts(lab: &Lab) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for (id, about) in ACTS {
        let outcome = act(lab, id, about)?;
        let good = outcome.problems.is_empty();
        outcomes.push(outcome);
        if !good {
            break;
        }
    }
    Ok(outcomes)
}

fn act(lab: &Lab, id: &str, about: &str) -> Result<Outcome> {
    println!("{about}");
    let fault = faults::find(id).context("a fault of the catalogue")?;
    let mut live = None;
    let outcome = faults::run(lab, &fault, &mut |clients| live = Some(Live::start(clients)));
    drop(live);
    let outcome = outcome?;
    report::save(&outcome, &place::reports(), &format!("demo-{id}"))?;
    println!("{}", report::text(&outcome));
    Ok(outcome)
}

fn short(outcome: &Outcome) -> String {
    let seconds = |value: Option<f64>| value.map_or("without end".to_string(), |s| format!("{s:.2} s"));
    let good = if outcome.problems.is_empty() { "as it should be" } else { "NOT as it should be" };
    let first = match outcome.id.as_str() {
        "C1" => format!("first write after {}", seconds(outcome.outage.longest.seconds())),
        _ => format!("no writes for {}", seconds(outcome.outage.longest.seconds())),
    };
    format!("{first}, {} rows lost, {good}", outcome.loss.rows)
}

fn keep_logs(lab: &Lab) {
    let directory = place::reports().join("demo-logs");
    if lab.save_logs(&directory).is_ok() {
        eprintln!("The logs are kept in {}.", directory.display());
    }
}

/// Builds the agent with the profile and into the directory of this program.
fn build() -> Result<()> {
    if std::env::var_os("PRIMACY_LAB_AGENT").is_some() {
        return Ok(());
    }
    println!("Building the agent, if it isn't up to date.");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "-p", "primacy", "--bin", "primacy"])
        .current_dir(place::repository())
        .stdin(Stdio::null())
        .status()
        .context("run cargo")?;
    if !status.success() {
        bail!("the agent can't be built");
    }
    Ok(())
}
