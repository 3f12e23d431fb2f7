//! `cargo lab`: clusters of real processes on this machine, with faults.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use primacy_tests::chaos;
use primacy_tests::chaos::interrupt::Interrupt;
use primacy_tests::faults::{self, Fault, Outcome};
use primacy_tests::lab::{Lab, Options, again_as_root, inner_role, is_root};
use primacy_tests::network::{self, Host};
use primacy_tests::report::{self, Live};
use primacy_tests::time::Moment;
use primacy_tests::{journals, packages, place};

/// Clusters of real etcd, agents and PostgreSQL on three hosts, with faults and clients that count.
#[derive(Parser)]
#[command(name = "cargo lab", version)]
struct Arguments {
    /// The lab's name, of a-z, 0-9 and -; several may be up at the same time.
    #[arg(long, global = true, default_value = "lab", value_parser = place::lab_name)]
    name: String,
    /// Dynamic configuration at bootstrap, beyond the agent's defaults, for example `--set ttl=20`.
    #[arg(long = "set", global = true, value_name = "KEY=VALUE")]
    dynamic: Vec<String>,
    #[command(subcommand)]
    act: Act,
}

#[derive(Subcommand)]
enum Act {
    /// Starts a lab in the background and waits until three nodes stream.
    Up {
        /// Only network, hosts and etcd; no agents.
        #[arg(long)]
        bare: bool,
    },
    /// Shows how everything is.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Inflicts faults, one after the other, and judges what came of them. Without a running lab, one is started for
    /// them and taken down afterwards.
    Fault {
        /// Ids of faults, `all` or `quick`; none lists them.
        ids: Vec<String>,
        /// How often each one is run.
        #[arg(long, default_value_t = 1)]
        times: usize,
        /// Prints JSON instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Plays stories of tests/scenarios on real processes, and judges what came of them.
    Scenario {
        /// Their names; all that a lab can play without.
        names: Vec<String>,
        /// How often each one is played.
        #[arg(long, default_value_t = 1)]
        times: usize,
    },
    /// Inflicts random faults at random moments, several at a time, and judges the whole. Ctrl-C asks for a verdict so
    /// far.
    Chaos {
        /// For how long faults are inflicted.
        #[arg(long, default_value_t = 10)]
        minutes: u64,
        /// What decides faults and moments; without it, one is drawn.
        #[arg(long)]
        seed: Option<u64>,
        /// Keeps the logs of all hosts even if all went well.
        #[arg(long)]
        logs: bool,
    },
    /// Runs a program in the network of a host.
    Exec {
        /// h1, h2, h3 or client.
        host: String,
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
    /// Checks the lab's own network: cuts, delays, directions, ports.
    Check,
    /// Ends the lab and removes all of it.
    Down,
}

fn main() -> ExitCode {
    let all: Vec<String> = std::env::args().collect();
    let done = match inner_role(&all) {
        Some(inner) => inner.map(|()| true),
        None => act(Arguments::parse(), &all[1..]),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether all went well.
fn act(arguments: Arguments, words: &[String]) -> Result<bool> {
    let options = options(&arguments)?;
    match arguments.act {
        Act::Fault { ids, .. } if ids.is_empty() => list(),
        _ if !is_root() => {
            // Ctrl-C reaches the inner program by itself, and this one has to wait for it.
            let _interrupt = Interrupt::listen()?;
            again_as_root(words)
        }
        Act::Up { bare } => up(&options, bare),
        Act::Status { json } => status(&options.name, json),
        Act::Fault { ids, times, json } => fault(&options, &chosen(&ids)?, times, json),
        Act::Scenario { names, times } => fault(&options, &faults::text::named(&names)?, times, false),
        Act::Chaos { minutes, seed, logs } => chaos(&options, minutes, seed, logs),
        Act::Exec { host, command } => exec(&options.name, &host, &command),
        Act::Check => network::check::run(),
        Act::Down => down(&options.name),
    }
}

fn options(arguments: &Arguments) -> Result<Options> {
    let pair = |text: &String| {
        let (key, value) =
            text.split_once('=').with_context(|| format!("--set {text}: KEY=VALUE is needed"))?;
        Ok((key.to_string(), value.to_string()))
    };
    let dynamic = arguments.dynamic.iter().map(pair).collect::<Result<_>>()?;
    Ok(Options { name: arguments.name.clone(), agent: place::agent(), dynamic })
}

fn up(options: &Options, bare: bool) -> Result<bool> {
    packages::check()?;
    let lab = Lab::start(options)?;
    if !bare {
        faults::prepare(&lab).inspect_err(|_| keep_logs(&lab, "up"))?;
    }
    lab.detach()?;
    println!("The lab is up below {}.", place::of_lab(&options.name).display());
    status(&options.name, false)
}

fn status(name: &str, json: bool) -> Result<bool> {
    let status = Lab::find(name)?.status()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
        return Ok(true);
    }
    println!("host    address      etcd    agent   guard   postmaster  backends");
    let pid = |pid: Option<i32>| pid.map_or("-".to_string(), |pid| pid.to_string());
    for host in status.hosts.iter().filter(|host| host.on) {
        let (etcd, agent, guard) = (pid(host.etcd), pid(host.agent), pid(host.guard));
        let (address, postmaster) = (host.host.address(), pid(host.postmaster));
        let name = host.host;
        println!(
            "{name:<7} {address:<12} {etcd:<7} {agent:<7} {guard:<7} {postmaster:<11} {}",
            host.backends
        );
    }
    for rule in &status.rules {
        println!("network: {}", serde_json::to_string(rule)?);
    }
    Ok(true)
}

fn list() -> Result<bool> {
    for fault in faults::ALL {
        println!("{:<12} {}", fault.id, fault.title);
    }
    Ok(true)
}

fn chaos(options: &Options, minutes: u64, seed: Option<u64>, logs: bool) -> Result<bool> {
    let interrupt = Interrupt::listen()?;
    let seed = seed.unwrap_or_else(|| Moment::now().0 as u64 % 1_000_000);
    println!("seed {seed}");
    let lab = ready(options)?;
    let asked = chaos::Options { seconds: minutes * 60, seed };
    let name = format!("chaos-{seed}");
    let mut say = |line: &str| println!("{line}");
    let verdict = chaos::run(&lab, &asked, &interrupt, &mut say).inspect_err(|_| keep_logs(&lab, &name))?;
    let report = verdict.save(&place::reports(), &name)?;
    println!("\n{}the report is {}", verdict.text(), report.display());
    let told_the_same = journals_agree(&lab)?;
    if logs || !verdict.passed() {
        keep_logs(&lab, &name);
    }
    Ok(verdict.passed() && told_the_same)
}

/// The lab of this name with a cluster, started if it isn't up.
fn ready(options: &Options) -> Result<Lab> {
    if let Ok(lab) = Lab::find(&options.name) {
        return Ok(lab);
    }
    packages::check()?;
    let lab = Lab::start(options)?;
    faults::prepare(&lab).inspect_err(|_| keep_logs(&lab, "up"))?;
    Ok(lab)
}

fn chosen(ids: &[String]) -> Result<Vec<Fault>> {
    let mut found = Vec::new();
    for id in ids {
        match id.as_str() {
            "all" => found.extend(faults::ALL),
            "quick" => found.extend(faults::QUICK.iter().filter_map(|id| faults::find(id))),
            id => found.push(
                faults::find(id).with_context(|| format!("no fault {id}; `cargo lab fault` lists all"))?,
            ),
        }
    }
    Ok(found)
}

fn fault(options: &Options, faults: &[Fault], times: usize, json: bool) -> Result<bool> {
    let lab = match Lab::find(&options.name) {
        Ok(lab) => lab,
        Err(_) => {
            packages::check()?;
            let lab = Lab::start(options)?;
            if faults.first().is_none_or(|fault| fault.id != "C1") {
                faults::prepare(&lab).inspect_err(|_| keep_logs(&lab, "up"))?;
            }
            lab
        }
    };
    let (mut outcomes, mut broken, mut table) = (Vec::new(), 0, Vec::new());
    for fault in faults {
        let (done, failed) = repeat(&lab, fault, times, json)?;
        broken += failed;
        table.push(report::row(fault.id, &done));
        outcomes.extend(done);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&outcomes.iter().map(report::json).collect::<Vec<_>>())?);
    }
    let told_the_same = journals_agree(&lab)?;
    let failed = broken
        + outcomes.iter().filter(|outcome| !outcome.problems.is_empty()).count()
        + usize::from(!told_the_same);
    let passed = outcomes.len() + broken + 1 - failed;
    if !json {
        if outcomes.len() > 1 {
            println!("{}\n{}\n", report::COLUMNS, table.join("\n"));
        }
        println!("test result: {passed} passed; {failed} failed");
    }
    Ok(failed == 0)
}

/// Whether the core tells the same as the agents did, given all that they had to decide from.
fn journals_agree(lab: &Lab) -> Result<bool> {
    let replayed = journals::of_lab(&lab.name)?;
    let (lives, inputs) = (replayed.lives, replayed.inputs);
    if replayed.wrong.is_empty() {
        eprintln!("journals: {lives} lives of agents, {inputs} inputs; the core tells the same again");
        return Ok(true);
    }
    eprintln!("journals: {} times the core doesn't tell what an agent did", replayed.wrong.len());
    replayed.wrong.iter().take(5).for_each(|what| eprintln!("  {what}"));
    keep_logs(lab, "journals");
    Ok(false)
}

/// Runs a fault so often; returns what came of it, and how many runs couldn't even be judged.
fn repeat(lab: &Lab, fault: &Fault, times: usize, json: bool) -> Result<(Vec<Outcome>, usize)> {
    let (mut outcomes, mut broken) = (Vec::new(), 0);
    for run in 1..=times {
        let name = if times > 1 { format!("{}-{run}", fault.id) } else { fault.id.to_string() };
        match once(lab, fault, &name, json) {
            Ok(outcome) => {
                if outcome.healthy_at.is_none() {
                    eprintln!("the cluster doesn't recover: it is made anew");
                    faults::renew(lab)?;
                }
                outcomes.push(outcome);
            }
            Err(error) => {
                broken += 1;
                eprintln!("{}: {error:#}", fault.id);
                keep_logs(lab, &name);
            }
        }
    }
    Ok((outcomes, broken))
}

fn once(lab: &Lab, fault: &Fault, name: &str, json: bool) -> Result<Outcome> {
    let mut live = None;
    let outcome = faults::run(lab, fault, &mut |clients| live = (!json).then(|| Live::start(clients)));
    drop(live);
    let outcome = outcome?;
    report::save(&outcome, &place::reports(), name)?;
    if !json {
        println!("{}", report::text(&outcome));
    }
    if !outcome.problems.is_empty() {
        keep_logs(lab, name);
    }
    Ok(outcome)
}

fn keep_logs(lab: &Lab, what: &str) {
    let directory = place::reports().join(format!("{what}-logs"));
    match lab.save_logs(&directory) {
        Ok(()) => eprintln!("the logs are kept in {}", directory.display()),
        Err(error) => eprintln!("the logs can't be kept: {error:#}"),
    }
}

fn exec(name: &str, host: &str, command: &[String]) -> Result<bool> {
    let host = Host::named(host).with_context(|| format!("no host is called {host}"))?;
    let namespace = Lab::find(name)?.namespace(host)?;
    let status =
        Command::new("nsenter").arg(format!("--net={}", namespace.display())).args(command).status()?;
    Ok(status.success())
}

fn down(name: &str) -> Result<bool> {
    match Lab::find(name) {
        Ok(lab) => lab.down()?,
        // Nothing answers, but an earlier lab may have left something.
        Err(_) => primacy_tests::keeper::clear(name)?,
    }
    println!("Nothing of the lab is left.");
    Ok(true)
}
