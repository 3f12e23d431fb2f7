//! Plays a story of `tests/scenarios` again and again: with every single trouble of the alphabet before every step, and
//! with pairs of them drawn at random. What a sweep finds by luck, this finds by patience.

mod progress;

use crate::plan::{self, What};
use crate::report;
use crate::run::{Outcome, Run};
use crate::scenario;
use crate::schedule::Dice;
use anyhow::{Context, Result, anyhow, bail};
use primacy_scenarios::{Scenario, Step};
use progress::{Done, Progress};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

/// What is asked for on the command line.
#[derive(clap::Args)]
pub struct Choice {
    /// The stories' names; all without.
    scenarios: Vec<String>,
    /// So many pairs of troubles, drawn at random, besides the single ones.
    #[arg(long, default_value_t = 0)]
    pairs: u64,
    /// What decides which pairs.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Forget what an interrupted call has done.
    #[arg(long)]
    anew: bool,
    /// Play only this, and tell it: a trouble as a failure names it, such as "217: host dies a for 12.5s"; twice for two.
    #[arg(long, value_name = "STEP: TROUBLE")]
    only: Vec<Added>,
}

/// How long a trouble that has an end lasts, as a fraction of T: shorter than anybody would act upon, and longer than
/// any lease.
const LENGTHS: [(u64, u64); 2] = [(1, 16), (5, 2)];

/// So many failures are printed.
const SHOWN: usize = 5;

/// A trouble that isn't in the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Added {
    /// Before which of the story's steps it begins.
    step: u64,
    what: What,
    for_ms: u64,
}

/// A story that is being played: a run, and what of the story it hasn't come to yet.
#[derive(Clone)]
struct Play<'a> {
    run: Run,
    ahead: &'a [Step],
}

impl Play<'_> {
    fn of(scenario: &Scenario, with_story: bool) -> Play<'_> {
        Play { run: scenario::opening(scenario, with_story), ahead: &scenario.steps }
    }

    /// When the next step is due, while the story goes on.
    fn due(&self) -> Option<u64> {
        let own = self.run.due().filter(|_| self.run.goes_wrong())?;
        Some(self.ahead.first().map_or(own, |step| own.min(step.at_ms * 1_000)))
    }

    fn next(&mut self) {
        let due = self.run.due();
        match self.ahead.split_first() {
            Some((step, rest)) if due.is_none_or(|due| due >= step.at_ms * 1_000) => {
                self.ahead = rest;
                // With other troubles nobody may be in a role at its moment: then it doesn't happen.
                drop(scenario::take(&mut self.run, step));
            }
            _ => self.run.next(),
        }
    }

    fn add(&mut self, added: &Added) {
        let now = self.run.world.now;
        self.run.plan_trouble(now, added.for_ms * 1_000, added.what);
    }

    /// Goes on to the end, with more troubles on the way.
    fn finish(mut self, from: u64, more: &[Added]) -> Outcome {
        let mut step = from;
        for added in more {
            while step < added.step && self.due().is_some() {
                self.next();
                step += 1;
            }
            // Another trouble may have left the story with fewer steps; once all is mended, nothing more goes wrong.
            if self.due().is_some() {
                self.add(added);
            }
        }
        while self.due().is_some() {
            self.next();
        }
        scenario::finish(self.run)
    }
}

/// What is played: all steps of a story, with which troubles.
struct Work<'a> {
    scenario: &'a Scenario,
    /// The first step before which troubles are added.
    first: u64,
    /// The step after the last one.
    end: u64,
    /// All troubles that can be added.
    letters: Vec<(What, u64)>,
    /// Pairs, by the step of the first of them.
    pairs: BTreeMap<u64, Vec<[Added; 2]>>,
    /// How the story goes without any.
    plain: u64,
}

impl Work<'_> {
    fn new<'a>(scenario: &'a Scenario, pairs: u64, seed: u64) -> Work<'a> {
        let mut play = Play::of(scenario, false);
        let first_trouble = scenario.steps.first().map_or(0, |step| step.at_ms * 1_000);
        let (mut first, mut end) = (0, 0);
        while let Some(due) = play.due() {
            // Troubles just before those of the story count, too.
            first += u64::from(due + LEAD_US < first_trouble);
            end += 1;
            play.next();
        }
        let plain = play.finish(end, &[]).fingerprint;
        let mut letters = Vec::new();
        for what in plan::alphabet() {
            let lengths = LENGTHS.map(|(times, of)| scenario.ttl_ms * times / of);
            let lengths = if what.ends().is_empty() { &[0][..] } else { &lengths[..] };
            letters.extend(lengths.iter().map(|for_ms| (what, *for_ms)));
        }
        let mut work = Work { scenario, first, end, letters, pairs: BTreeMap::new(), plain };
        work.draw_pairs(pairs, seed);
        work
    }

    fn draw_pairs(&mut self, pairs: u64, seed: u64) {
        let mut dice = Dice::new(seed);
        for _ in 0..pairs {
            let mut steps = [0, 0].map(|_| dice.between(self.first, self.end - 1));
            steps.sort_unstable();
            let pair = steps.map(|step| {
                let (what, for_ms) = self.letters[dice.between(0, self.letters.len() as u64 - 1) as usize];
                Added { step, what, for_ms }
            });
            self.pairs.entry(steps[0]).or_default().push(pair);
        }
    }

    fn runs(&self) -> u64 {
        let pairs: usize = self.pairs.values().map(Vec::len).sum();
        (self.end - self.first) * self.letters.len() as u64 + pairs as u64
    }

    /// Everything that is added before one step.
    fn do_step(&self, step: u64, play: &Play<'_>) -> Done {
        let singles =
            self.letters.iter().map(|(what, for_ms)| vec![Added { step, what: *what, for_ms: *for_ms }]);
        let pairs = self.pairs.get(&step).into_iter().flatten().map(|pair| pair.to_vec());
        let mut done = Done { step, ..Done::default() };
        for added in singles.chain(pairs) {
            let outcome = play.clone().finish(step, &added);
            done.runs += 1;
            done.changed += u64::from(outcome.fingerprint != self.plain);
            done.flagged += outcome.counts.roles.get("(needs an operator)").copied().unwrap_or(0);
            if let Some(violation) = outcome.violation {
                let added: Vec<_> = added.iter().map(ToString::to_string).collect();
                done.failures.push((added.join(" + "), violation.to_string()));
            }
        }
        done
    }

    /// One worker's share of the steps.
    fn do_share(&self, worker: u64, workers: u64, progress: &Progress) {
        let mut play = Play::of(self.scenario, false);
        for step in 0..self.end {
            if step >= self.first && step % workers == worker && !progress.has(step) {
                progress.note(&self.do_step(step, &play));
            }
            play.next();
        }
    }
}

/// How long before the story's first trouble others may begin.
const LEAD_US: u64 = 500_000;

/// Does what was asked for.
///
/// # Errors
/// A story that doesn't exist, or a trouble that breaks an invariant.
pub fn command(choice: &Choice) -> Result<()> {
    let scenarios = scenario::named(&choice.scenarios)?;
    if !choice.only.is_empty() {
        let [scenario] = &scenarios[..] else { bail!("--only belongs to one scenario: name it") };
        return replay(scenario, &choice.only);
    }
    let failed = scenarios.iter().filter_map(|scenario| exhaust(scenario, choice).err()).collect::<Vec<_>>();
    failed.into_iter().next().map_or(Ok(()), Err)
}

fn exhaust(scenario: &Scenario, choice: &Choice) -> Result<()> {
    let begun = Instant::now();
    let work = Work::new(scenario, choice.pairs, choice.seed);
    println!(
        "{}: steps {} to {} of {}, {} troubles before each, {} pairs: {} runs",
        scenario.name,
        work.first,
        work.end,
        scenario.lasts_ms / 1_000,
        work.letters.len(),
        choice.pairs,
        work.runs()
    );
    let key = format!("{} {} {:x}", choice.pairs, choice.seed, work.plain);
    let progress = Progress::open(&scenario.name, &key, choice.anew, work.runs())?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (work, progress) = (&work, &progress);
            scope.spawn(move || work.do_share(worker, workers, progress));
        }
    });
    let total = progress.finish()?;
    println!(
        "{} runs in {:.1} s; {} of them went otherwise than the story alone, {} ended with a call for an operator",
        total.runs,
        begun.elapsed().as_secs_f64(),
        total.changed,
        total.flagged
    );
    conclude(scenario, &total)
}

fn conclude(scenario: &Scenario, total: &Done) -> Result<()> {
    for (added, violation) in total.failures.iter().take(SHOWN) {
        let only: Vec<_> = added.split(" + ").map(|one| format!(" --only {one:?}")).collect();
        println!(
            "FAILED  {added}\n        {violation}\nreplay  cargo sim exhaust {}{}",
            scenario.name,
            only.join("")
        );
    }
    match total.failures.len() {
        0 if total.changed == 0 => bail!("{}: no trouble has changed anything", scenario.name),
        0 => Ok(()),
        failed => bail!("{}: {failed} of {} runs fail", scenario.name, total.runs),
    }
}

fn replay(scenario: &Scenario, added: &[Added]) -> Result<()> {
    let mut added = added.to_vec();
    added.sort_by_key(|added| added.step);
    let outcome = Play::of(scenario, true).finish(0, &added);
    print!("{}", outcome.story);
    report::hosts(&outcome.world).iter().for_each(|row| println!("last    {row}"));
    match outcome.violation {
        Some(violation) => bail!("{violation}"),
        None => Ok(()),
    }
}

impl fmt::Display for Added {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.what)?;
        if self.for_ms == 0 { Ok(()) } else { write!(f, " for {:.3}s", self.for_ms as f64 / 1e3) }
    }
}

impl FromStr for Added {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Added> {
        let (step, trouble) = text.split_once(": ").context("write it as STEP: TROUBLE")?;
        let step = step.parse().with_context(|| format!("{step:?} is no step"))?;
        let read = Step::new(0, trouble).map_err(|e| anyhow!(e))?;
        let what = read.what.parse().map_err(|e: String| anyhow!(e))?;
        Ok(Added { step, what, for_ms: read.for_ms })
    }
}

#[cfg(test)]
mod tests;
