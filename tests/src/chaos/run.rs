//! The loop: rounds of faults, and a checkpoint after each.

use std::time::Duration;

use anyhow::{Context, Result};

use super::hand::Hand;
use super::interrupt::Interrupt;
use super::losses;
use super::plan::Round;
use super::verdict::{Checkpoint, Inflicted, Verdict};
use crate::client::{Clients, Missing};
use crate::faults::{SETTLED, Store, wait_healthy};
use crate::judge;
use crate::lab::Lab;
use crate::network::CLIENT;
use crate::record::Record;
use crate::time::Moment;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long faults are inflicted, in seconds.
    pub seconds: u64,
    /// What decides the plan.
    pub seed: u64,
}

/// A run as it goes on.
struct Chaos<'a> {
    clients: &'a Clients,
    hand: Hand<'a>,
    interrupt: &'a Interrupt,
    start: Moment,
    end: Moment,
    /// Told line by line.
    say: &'a mut dyn FnMut(&str),
    faults: Vec<Inflicted>,
    checkpoints: Vec<Checkpoint>,
    missing: Missing,
    problems: Vec<String>,
}

/// Inflicts faults on a lab whose cluster is up, and judges what came of them. `say` is told each step.
pub fn run(
    lab: &Lab,
    options: &Options,
    interrupt: &Interrupt,
    say: &mut dyn FnMut(&str),
) -> Result<Verdict> {
    let clients = Clients::start(lab)?;
    let record = Record::from_now(&lab.name);
    wait_healthy(&clients, Moment::now(), SETTLED).context("before the first fault")?;
    let start = Moment::now();
    let mut chaos = Chaos {
        clients: &clients,
        hand: Hand::new(lab, &clients)?,
        interrupt,
        start,
        end: start.plus(Duration::from_secs(options.seconds)),
        say,
        faults: Vec::new(),
        checkpoints: Vec::new(),
        missing: Missing::new(),
        problems: Vec::new(),
    };
    chaos.play(options.seed)?;
    let Chaos { faults, checkpoints, mut problems, .. } = chaos;
    let end = Moment::now();
    let (seen, missing) = clients.finish()?;
    let missing = missing.unwrap_or_else(|error| {
        problems.push(format!("the rows can't be compared: {error:#}"));
        Missing::new()
    });
    let (waits, takings) = (lab.waits_for_standbys()?, record.takings());
    let reports = losses::reports(&Store { namespace: lab.namespace(CLIENT)? }).unwrap_or_default();
    let mut verdict = Verdict {
        seed: options.seed,
        seconds: end.since(start),
        interrupted: interrupt.has_come(),
        start,
        faults,
        checkpoints,
        acked: seen.acks.len(),
        outages: judge::outages(&seen.acks, start, end),
        lost: missing.len(),
        tails: judge::tails(&seen.acks, &missing, &takings),
        takings,
        reports,
        two_writers: judge::two_writers(&seen.acks, |ack| !waits || missing.contains(&ack.id)),
        overlaps: judge::overlaps(&judge::reigns(&seen.samples)),
        returns: record.returns(),
        problems,
    };
    verdict.problems.extend(verdict.found(waits));
    verdict.problems.extend(record.panics());
    Ok(verdict)
}

impl Chaos<'_> {
    /// Rounds until the time is over, somebody wants an end, or the cluster doesn't recover.
    fn play(&mut self, seed: u64) -> Result<()> {
        for number in 1.. {
            let round = Round::draw(seed, number);
            self.inflict(&round)?;
            self.hand.undo_all()?;
            let recovered = self.check(number);
            if !recovered || self.is_over() {
                break;
            }
        }
        for answer in self.hand.finish() {
            self.say(&answer);
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.interrupt.has_come() || Moment::now() >= self.end
    }

    fn say(&mut self, what: &str) {
        (self.say)(&format!("{:9.3} s  {what}", Moment::now().since(self.start)));
    }

    /// Lets a round happen, or as much of it as there is time for.
    fn inflict(&mut self, round: &Round) -> Result<()> {
        let begin = Moment::now();
        let first = self.faults.len();
        self.say(&format!("round {}", round.number));
        let begins = round.faults.iter().enumerate().map(|(index, fault)| (fault.at, index, true));
        let lasting = round.faults.iter().enumerate().filter(|(_, fault)| fault.until > fault.at);
        let ends = lasting.map(|(index, fault)| (fault.until, index, false));
        let mut steps: Vec<(u64, usize, bool)> = begins.chain(ends).collect();
        steps.sort();
        for (millis, index, begins) in steps {
            if !self.pass_until(begin.plus(Duration::from_millis(millis))) {
                return Ok(());
            }
            if begins {
                let fault = &round.faults[index];
                let at = Moment::now();
                let (whom, done) = self.hand.inflict(first + index, fault);
                let lasts = (fault.until - fault.at) as f64 / 1_000.0;
                let error = done.err().map(|error| format!("{error:#}"));
                let inflicted = Inflicted { round: round.number, at, kind: fault.kind, whom, lasts, error };
                self.say(&inflicted.line());
                self.faults.push(inflicted);
            } else {
                self.hand.undo(first + index)?;
                let what = format!("  over: {}", self.faults[first + index].what());
                self.say(&what);
            }
        }
        self.pass_until(begin.plus(Duration::from_millis(round.end)));
        Ok(())
    }

    /// Whether that moment has come before the end.
    fn pass_until(&mut self, moment: Moment) -> bool {
        while Moment::now() < moment {
            if self.is_over() {
                return false;
            }
            for answer in self.hand.answers() {
                self.say(&format!("  {answer}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        !self.is_over()
    }

    /// With everything undone, the cluster must become healthy by itself, and keep what it kept.
    fn check(&mut self, round: u64) -> bool {
        let undone = Moment::now();
        if let Err(error) = wait_healthy(self.clients, undone, SETTLED) {
            self.problems.push(format!("after round {round}: {error:#}"));
            self.say(&format!("checkpoint {round}: {error:#}"));
            return false;
        }
        let healthy_after = (Moment::now().since(undone) - SETTLED.as_secs_f64()).max(0.0);
        let missing = match self.clients.missing() {
            Ok(missing) => missing,
            Err(error) => {
                self.problems.push(format!("after round {round}: the rows can't be compared: {error:#}"));
                return false;
            }
        };
        let returned = self.missing.difference(&missing).count();
        if returned > 0 {
            self.problems
                .push(format!("after round {round}: {returned} rows that were lost are there again"));
        }
        let acked = self.clients.look(|seen| seen.acks.len());
        let checkpoint =
            Checkpoint { round, at: Moment::now(), healthy_after, acked, missing: missing.len() };
        self.say(&checkpoint.line(missing.difference(&self.missing).count()));
        self.checkpoints.push(checkpoint);
        self.missing = missing;
        true
    }
}
