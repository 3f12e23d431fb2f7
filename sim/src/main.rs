//! `cargo sim`: seeded runs of the world.

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use primacy_sim::engine::Engine;
use primacy_sim::invariants::Violation;
use primacy_sim::junit::{self, Case};
use primacy_sim::regressions::{self, Kept};
use primacy_sim::{exhaust, journal, mistakes, plan, report, run, scenario, shrink, states};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Seeded simulations of Primacy clusters.
#[derive(Parser)]
#[command(name = "cargo sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// Run one seed; a failing one is shrunk and told with the command that replays it.
    Run {
        /// The seed.
        #[arg(long)]
        seed: u64,
        /// Print everything that happens.
        #[arg(long)]
        story: bool,
        /// Virtual seconds with troubles.
        #[arg(long, default_value_t = 300)]
        seconds: u64,
    },
    /// Run many seeds, and fail below the floors of what they must reach.
    Sweep {
        /// The seeds, as A..B (B excluded).
        #[arg(long, value_parser = seeds)]
        seeds: std::ops::Range<u64>,
        /// Virtual seconds with troubles, for each seed.
        #[arg(long, default_value_t = 300)]
        seconds: u64,
        /// Only say what the first failing seed has broken; for the planted mistakes.
        #[arg(long)]
        first: bool,
        /// Write what came of it into this file, too, as JUnit's XML.
        #[arg(long, value_name = "FILE", conflicts_with = "first")]
        junit: Option<PathBuf>,
    },
    /// Run the agent's async loop under madsim over the same world: one seed, or many.
    Driver {
        /// One seed; a failing one is shrunk and told with the command that replays it.
        #[arg(long, conflicts_with = "seeds")]
        seed: Option<u64>,
        /// Print everything that happens to the one seed.
        #[arg(long, requires = "seed")]
        story: bool,
        /// The seeds, as A..B (B excluded).
        #[arg(long, value_parser = seeds, default_value = "0..200")]
        seeds: std::ops::Range<u64>,
        /// Virtual seconds with troubles, for each seed.
        #[arg(long, default_value_t = 300)]
        seconds: u64,
        /// Write what came of it into this file, too, as JUnit's XML.
        #[arg(long, value_name = "FILE", conflicts_with = "seed")]
        junit: Option<PathBuf>,
    },
    /// Play the stories of tests/scenarios, and compare what is told with what their files say.
    Scenario {
        /// Their names; all without. One alone is told, too.
        names: Vec<String>,
        /// Write what is told into the files instead.
        #[arg(long)]
        write: bool,
    },
    /// Play a story again and again, with one more trouble from the whole alphabet at each of its steps.
    Exhaust(exhaust::Choice),
    /// Print the state machine as the seeds have seen it.
    States {
        /// Write it to docs/state-machine.md instead.
        #[arg(long)]
        write: bool,
    },
    /// Give a real agent's journal to the core once more: the same must come of it. Says what the seeds have never done.
    Journal {
        /// The files, the older one of an agent first.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Print everything that is told.
        #[arg(long)]
        story: bool,
    },
    /// Plant mistakes in copies of the core, and see that the simulator catches them.
    Mistakes(mistakes::Choice),
    /// Measure how much faster than real time the world runs, on one core.
    Bench {
        /// Seeds to run.
        #[arg(long, default_value_t = 20)]
        seeds: u64,
    },
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write the seeds as A..B")?;
    let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text:?}: {e}"));
    let (from, to) = (number(from)?, number(to)?);
    if from < to { Ok(from..to) } else { Err(format!("{from}..{to} names no seed")) }
}

/// The simulator as a net for planted mistakes.
const NET: mistakes::Net = mistakes::Net {
    name: "sim",
    package: "primacy-sim",
    arguments: &["sweep", "--first", "--seeds", "0..3000"],
};

fn main() -> Result<()> {
    match Cli::parse().command {
        Sub::Run { seed, story, seconds } => one(Engine::World, seed, story, seconds * 1_000),
        Sub::Sweep { seeds, seconds, first: true, .. } => hunt(seeds, seconds * 1_000),
        Sub::Sweep { seeds, seconds, first: false, junit } => {
            sweep(Engine::World, seeds, seconds * 1_000, junit.as_deref())
        }
        Sub::Driver { seed: Some(seed), story, seconds, .. } => {
            one(Engine::Driver, seed, story, seconds * 1_000)
        }
        Sub::Driver { seeds, seconds, junit, .. } => {
            sweep(Engine::Driver, seeds, seconds * 1_000, junit.as_deref())
        }
        Sub::Scenario { names, write } => scenario::command(&names, write),
        Sub::Exhaust(choice) => exhaust::command(&choice),
        Sub::States { write: false } => {
            print!("{}", states::document());
            Ok(())
        }
        Sub::States { write: true } => Ok(std::fs::write(states::path(), states::document())?),
        Sub::Journal { files, story } => journal::command(&files, story),
        Sub::Mistakes(choice) => mistakes::command(&NET, &choice),
        Sub::Bench { seeds } => {
            bench(seeds);
            Ok(())
        }
    }
}

fn one(engine: Engine, seed: u64, story: bool, length_ms: u64) -> Result<()> {
    let plan = plan::from_seed(seed, length_ms);
    println!("seed    {seed}\nplan    {}", plan.knobs);
    let outcome = engine.run(seed, &plan, story);
    print!("{}", outcome.story);
    if outcome.violation.is_some() {
        tell_failure(engine, seed, length_ms)?;
        bail!("seed {seed} fails");
    }
    print!("{}", report::counts(&outcome.counts));
    println!("fingerprint {:016x}", outcome.fingerprint);
    Ok(())
}

/// Runs seeds one after the other until something is caught, so that what it took is the same on every machine.
fn hunt(seeds: std::ops::Range<u64>, length_ms: u64) -> Result<()> {
    let mut virtual_us = 0;
    for (seed, count) in seeds.clone().zip(1u64..) {
        let outcome = run::run(seed, &plan::from_seed(seed, length_ms), false);
        virtual_us += outcome.counts.virtual_us;
        if let Some(Violation { id, what }) = outcome.violation {
            let (number, virtual_s) = (if count == 1 { "seed" } else { "seeds" }, virtual_us / 1_000_000);
            println!("caught by {id} after {count} {number}, {virtual_s} virtual s: {what}");
            bail!("seed {seed} fails");
        }
    }
    println!("nothing caught in {} seeds, {} virtual s", seeds.end - seeds.start, virtual_us / 1_000_000);
    Ok(())
}

fn sweep(engine: Engine, seeds: std::ops::Range<u64>, length_ms: u64, junit: Option<&Path>) -> Result<()> {
    let begun = Instant::now();
    let (total, failed) = sweep_all(engine, &seeds, length_ms);
    let (count, seconds) = (seeds.end - seeds.start, begun.elapsed().as_secs_f64());
    print!("{}", report::counts(&total));
    println!("seeds     {count} in {seconds:.1} s");
    if let Some(seed) = failed.first() {
        println!("first failing seed {seed}");
    }
    let mut cases = Vec::new();
    for (nth, seed) in failed.iter().enumerate() {
        let told = if nth < TOLD { tell_failure(engine, *seed, length_ms)? } else { "not told".to_owned() };
        cases.push(Case { name: format!("seed {seed}"), seconds: None, failure: Some(told) });
    }
    let missed = report::below_floor(&total, count);
    let missed = (count >= 100 && !missed.is_empty())
        .then(|| format!("the sweep has seen too little: {}", missed.join("; ")));
    let name = format!("seeds {}..{}", seeds.start, seeds.end);
    cases.push(Case { name, seconds: Some(seconds), failure: missed.clone() });
    if let Some(path) = junit {
        let command = if engine == Engine::World { "sim sweep" } else { "sim driver" };
        junit::write(path, command, &cases)?;
    }
    match missed {
        _ if !failed.is_empty() => bail!("{} of {count} seeds fail: {failed:?}", failed.len()),
        Some(missed) => bail!(missed),
        None => Ok(()),
    }
}

/// So many failing seeds are made simple and told.
const TOLD: usize = 3;

/// Runs seeds on all cores; says what was seen, and which of them fail, in order.
fn sweep_all(engine: Engine, seeds: &std::ops::Range<u64>, length_ms: u64) -> (run::Counts, Vec<u64>) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let parts = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let seeds = seeds.clone().filter(move |seed| seed % threads == worker);
                scope.spawn(move || sweep_part(engine, seeds, length_ms))
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker panicked")).collect::<Vec<_>>()
    });
    let (mut total, mut failed) = (run::Counts::default(), Vec::new());
    for (counts, failures) in parts {
        report::add(&mut total, &counts);
        failed.extend(failures);
    }
    failed.sort_unstable();
    (total, failed)
}

/// Makes a failing seed's plan simple, tells it and keeps it for the tests. What was told begins with what was broken.
fn tell_failure(engine: Engine, seed: u64, length_ms: u64) -> Result<String> {
    let (small, again) = shrink::shrink(engine, seed, length_ms);
    let mut told = report::failure(engine, seed, &plan::from_seed(seed, length_ms), Some(&small), &again);
    print!("{told}");
    if let Some(violation) = again.violation {
        told = format!("{violation}\n{told}");
        let kept = Kept { why: violation.to_string(), engine, seed, plan: small };
        println!("kept    {}", kept.write(&regressions::directory())?.display());
    }
    Ok(told)
}

fn sweep_part(engine: Engine, seeds: impl Iterator<Item = u64>, length_ms: u64) -> (run::Counts, Vec<u64>) {
    let (mut total, mut failed) = (run::Counts::default(), Vec::new());
    for seed in seeds {
        let outcome = engine.run(seed, &plan::from_seed(seed, length_ms), false);
        report::add(&mut total, &outcome.counts);
        if outcome.violation.is_some() {
            failed.push(seed);
        }
    }
    (total, failed)
}

fn bench(seeds: u64) {
    for (engine, name) in [(Engine::World, "pure world"), (Engine::Driver, "driver")] {
        measure(engine, name, seeds);
    }
}

fn measure(engine: Engine, name: &str, seeds: u64) {
    let begun = Instant::now();
    let mut total = run::Counts::default();
    for seed in 0..seeds {
        let outcome = engine.run(seed, &plan::from_seed(seed, 300_000), false);
        report::add(&mut total, &outcome.counts);
    }
    let (wall, virtual_s) = (begun.elapsed().as_secs_f64(), total.virtual_us as f64 / 1e6);
    let (speed, step_us) = (virtual_s / wall, wall * 1e6 / total.steps as f64);
    println!(
        "{name:10} {virtual_s:.0} virtual s in {wall:.2} s on one core: {speed:.0} x real time; {} steps, \
         {step_us:.2} us each",
        total.steps
    );
}
