//! The journal of a real agent, given to the core once more. The core decides from its inputs alone, so it must tell the
//! same again: if it doesn't, the agent ran another version, or something got past the journal.
//!
//! And what was taken in real life is compared with what the seeds have done: an input that no seed has brought into a
//! role is one that the simulation doesn't know.

use crate::states;
use crate::world::Move;
use crate::world::agent::word;
use anyhow::{Context, Result, bail};
use primacy_core::effect::Effect;
use primacy_core::instance::Saved;
use primacy_core::{Boot, Config, Event, Input, Node, Time};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

/// A line of a journal: one of these, and when.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    t: Time,
    start: Option<Start>,
    input: Option<Input>,
    event: Option<Event>,
    /// So many lines have been lost so far.
    dropped: Option<u64>,
}

/// The beginning of an agent's life.
#[derive(Deserialize)]
struct Start {
    boot: Boot,
    config: Config,
    saved: Saved,
}

/// A node that lives once more.
struct Life {
    node: Node,
    begun: Option<Time>,
    /// What it has told, and the journal hasn't yet.
    told: VecDeque<Event>,
}

/// What came of a journal.
#[derive(Debug, Default)]
pub struct Replayed {
    /// Lives of agents.
    pub lives: u64,
    /// Inputs that were taken.
    pub inputs: u64,
    /// What the nodes did, and how often.
    pub moves: BTreeMap<Move, u64>,
    /// Where they didn't do what is in the journal, with the number of the line.
    pub wrong: Vec<String>,
    /// All that was told, if that is wanted.
    pub story: Option<String>,
    /// Lines that can't be judged: of a life whose beginning isn't there, or after others were lost.
    pub passed_over: u64,
    /// How often lines were lost, as the agent's disk was slow.
    pub lost: u64,
}

impl Replayed {
    /// Replays the lines of one agent's journal.
    ///
    /// # Errors
    /// A line that makes no sense, with its number.
    pub fn journal(&mut self, text: &str) -> Result<()> {
        let mut life = None;
        for (line, number) in text.lines().zip(1..) {
            // An agent may have been killed in the middle of a line, and the next one goes on behind it.
            let line = line.find("{\"start\":").map_or(line, |start| &line[start..]);
            let line =
                serde_json::from_str(line).with_context(|| format!("line {number} is of no journal"))?;
            self.line(&mut life, line, number);
        }
        Ok(())
    }

    fn line(&mut self, life: &mut Option<Life>, line: Line, number: u64) {
        if let Some(start) = line.start {
            self.lives += 1;
            let node = Node::new(Arc::new(start.config), start.boot, start.saved);
            *life = Some(Life { node, begun: None, told: VecDeque::new() });
            return;
        }
        let Some(one) = life else {
            self.passed_over += 1;
            return;
        };
        if let Some(input) = line.input {
            self.input(one, line.t, input, number);
        }
        if let Some(event) = line.event {
            let told = one.told.pop_front();
            if told.as_ref() != Some(&event) {
                let told = told.map_or("nothing".to_owned(), |told| format!("\"{told}\""));
                self.wrong.push(format!("line {number}: the agent told \"{event}\", the core {told}"));
            }
        }
        if line.dropped.is_some() {
            self.lost += 1;
            *life = None;
        }
    }

    fn input(&mut self, life: &mut Life, now: Time, input: Input, number: u64) {
        for untold in std::mem::take(&mut life.told) {
            self.wrong
                .push(format!("line {number}: the core told \"{untold}\" before, and the agent didn't"));
        }
        let (before, kind) = (life.node.role().word(), word(&input));
        let effects = life.node.handle(now, input);
        self.inputs += 1;
        *self.moves.entry((before, kind, life.node.role().word())).or_default() += 1;
        let begun = *life.begun.get_or_insert(now);
        for effect in effects {
            let Effect::Tell(event) = effect else { continue };
            if let Some(story) = &mut self.story {
                let (since, name) = (now.since(begun), &life.node.config().me);
                story.push_str(&format!("{:>11.6}s {name} {event}\n", since.0 as f64 / 1e6));
            }
            life.told.push_back(event);
        }
    }
}

/// Replays these files, those of one folder as the journal of one agent.
///
/// # Errors
/// A file that can't be read, or a line that makes no sense.
pub fn replay(files: &[PathBuf], story: bool) -> Result<Replayed> {
    let mut journals: BTreeMap<PathBuf, String> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let agent = file.parent().unwrap_or(file).to_owned();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        journals.entry(agent).or_default().push_str(whole);
    }
    let mut all = Replayed { story: story.then(String::new), ..Replayed::default() };
    for (agent, text) in &journals {
        let before = all.wrong.len();
        all.journal(text).with_context(|| agent.display().to_string())?;
        all.wrong[before..].iter_mut().for_each(|what| *what = format!("{}: {what}", agent.display()));
    }
    Ok(all)
}

/// `cargo sim journal`.
///
/// # Errors
/// As [`replay`], or a journal that the core doesn't agree with.
pub fn command(files: &[PathBuf], story: bool) -> Result<()> {
    let all = replay(files, story)?;
    print!("{}", all.story.as_deref().unwrap_or_default());
    println!(
        "{} lives, {} inputs; {} lines passed over, lines lost {} times",
        all.lives, all.inputs, all.passed_over, all.lost
    );
    tell_unseen(&all.moves);
    if all.wrong.is_empty() {
        println!("the core tells the same again");
        return Ok(());
    }
    all.wrong.iter().take(20).for_each(|what| println!("{what}"));
    bail!("{} times the core and a journal don't agree", all.wrong.len())
}

/// Says what no seed has done.
fn tell_unseen(moves: &BTreeMap<Move, u64>) {
    let seen = states::seen();
    let inputs: BTreeSet<_> = seen.iter().map(|(role, input, _)| (*role, *input)).collect();
    let mut unseen = 0;
    for ((before, input, after), count) in moves.iter().filter(|(step, _)| !seen.contains(*step)) {
        unseen += 1;
        let how = if inputs.contains(&(*before, *input)) { "with this end" } else { "at all" };
        println!("never in the seeds {how}: {before} --{input}--> {after}, {count} times");
    }
    println!("{} of {} kinds of steps were never seen in the seeds", unseen, moves.len());
}

#[cfg(test)]
mod tests {
    use super::*;
    use primacy_core::Span;
    use primacy_core::store::View;
    use serde_json::json;

    /// A member of nothing, that has looked once.
    fn text(told: Option<&str>) -> String {
        let mut config = Config::new("a".into(), Span::secs(5));
        config.priority = 0;
        let mut node = Node::new(Arc::new(config.clone()), Boot(1), Saved::default());
        let start = json!({"start": {"at": "today", "boot": 1, "config": config, "saved": Saved::default()}});
        let mut lines =
            vec![json!({"t": 1, "event": Event::Stopped}).to_string(), format!("{{\"t\":3,\"in{start}")];
        let foreign = json!({"performed": [1, {"failure": null, "found": {"instance": {"foreign": "not_postgres"}, "saved": Saved::default()}}]});
        let read = json!({"answered": [2, {"read": View::default()}]});
        for (t, input) in [(5, json!("wake")), (7, read), (9, foreign)] {
            lines.push(json!({"t": t, "input": input}).to_string());
            let input: Input = serde_json::from_value(input).unwrap();
            for effect in node.handle(Time(t), input) {
                if let Effect::Tell(event) = effect {
                    lines.push(json!({"t": t, "event": event}).to_string());
                }
            }
        }
        let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        if let Some(told) = told {
            text.push_str(told);
        }
        text
    }

    fn replayed(text: &str) -> Replayed {
        let mut replayed = Replayed { story: Some(String::new()), ..Replayed::default() };
        replayed.journal(text).unwrap();
        replayed
    }

    #[test]
    fn the_same_comes_of_the_same_inputs() {
        let same = replayed(&text(None));
        assert_eq!((same.lives, same.inputs, same.passed_over), (1, 3, 1), "{same:?}");
        assert_eq!(same.wrong, Vec::<String>::new());
        assert!(same.moves.contains_key(&("starting", "order done", "frozen")), "{:?}", same.moves);
        assert!(same.story.unwrap().contains("0.000004s a needs an operator"));
    }

    #[test]
    fn what_was_told_otherwise_is_named_with_its_line() {
        let more = text(Some("{\"t\":9,\"event\":\"stopped\"}\n"));
        let expected = format!(
            "line {}: the agent told \"has stopped in order\", the core nothing",
            more.lines().count()
        );
        assert_eq!(replayed(&more).wrong, [expected]);
        let told = |line: &&str| !line.contains("froze");
        let less: String = text(Some("{\"t\":9,\"input\":\"wake\"}\n"))
            .lines()
            .filter(told)
            .map(|line| format!("{line}\n"))
            .collect();
        let wrong = replayed(&less).wrong;
        assert!(wrong[0].contains("before, and the agent didn't"), "{wrong:?}");
        let lost = replayed(&text(Some("{\"t\":9,\"dropped\":3}\n{\"t\":10,\"input\":\"wake\"}\n")));
        assert_eq!((lost.lost, lost.passed_over, lost.wrong.len()), (1, 2, 0), "{lost:?}");
    }

    #[test]
    fn a_line_of_something_else_is_named() {
        let error =
            Replayed::default().journal("{\"t\":1,\"input\":\"wake\"}\nno\n").unwrap_err().to_string();
        assert_eq!(error, "line 2 is of no journal");
    }
}
