// Inputs for the parsers of the agent: real ones, flipped, cut, doubled and spliced.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// One change of a text.
#[derive(Clone, Debug)]
enum Change {
    Flip(usize, u8),
    Cut(usize, usize),
    Double(usize, usize),
    Splice(usize, usize),
    Put(usize, &'static str),
}

/// What has meaning in one of the formats, or is at the edge of what a number holds.
const WORDS: [&str; 12] = [
    "{",
    "[",
    "\"",
    ": ",
    "\n",
    "/",
    "0",
    "-1",
    "4294967295",
    "18446744073709551615",
    "FFFFFFFF/FFFFFFFF",
    "null",
];

fn change() -> impl Strategy<Value = Change> {
    let at = 0..4096_usize;
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, by)| Change::Flip(at, by)),
        (at.clone(), 1..64_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        (at.clone(), 1..64_usize).prop_map(|(at, length)| Change::Double(at, length)),
        (at.clone(), at.clone()).prop_map(|(at, from)| Change::Splice(at, from)),
        (at, prop::sample::select(&WORDS[..])).prop_map(|(at, word)| Change::Put(at, word)),
    ]
}

fn apply(change: &Change, bytes: &mut Vec<u8>, other: &[u8]) {
    let within = |at: usize| at % (bytes.len() + 1);
    let part = |at: usize, length: usize| within(at)..(within(at) + length).min(bytes.len());
    match *change {
        Change::Flip(at, by) => {
            let at = within(at);
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= by);
        }
        Change::Cut(at, length) => drop(bytes.drain(part(at, length))),
        Change::Double(at, length) => {
            let part = part(at, length);
            let copy = bytes[part.clone()].to_vec();
            bytes.splice(part.start..part.start, copy);
        }
        Change::Splice(at, from) => {
            bytes.truncate(within(at));
            bytes.extend(&other[from % (other.len() + 1)..]);
        }
        Change::Put(at, word) => {
            let at = within(at);
            bytes.splice(at..at, word.bytes());
        }
    }
}

/// Other cases each time: a failure prints its input, the smallest that fails.
fn seed_of_this_moment() -> [u8; 16] {
    let since = std::time::UNIX_EPOCH.elapsed().expect("a clock behind 1970");
    since.as_nanos().to_le_bytes()
}

/// Hands `check` so many changed inputs of the corpus; `PRIMACY_FUZZ_CASES` says how many, else 2,000, and those are
/// always the same ones.
pub fn fuzz(corpus: &[&str], check: impl Fn(&[u8])) {
    let asked = std::env::var("PRIMACY_FUZZ_CASES").ok().map(|text| text.parse().expect("a number of cases"));
    let rng = match asked {
        Some(_) => TestRng::from_seed(RngAlgorithm::XorShift, &seed_of_this_moment()),
        None => TestRng::deterministic_rng(RngAlgorithm::ChaCha),
    };
    let config = Config { cases: asked.unwrap_or(2_000), failure_persistence: None, ..Config::default() };
    let count = corpus.len();
    let inputs = (0..count, 0..count, prop::collection::vec(change(), 0..6));
    let ran = TestRunner::new_with_rng(config, rng).run(&inputs, |(one, other, changes)| {
        let mut bytes = corpus[one].as_bytes().to_vec();
        changes.iter().for_each(|change| apply(change, &mut bytes, corpus[other].as_bytes()));
        check(&bytes);
        Ok(())
    });
    if let Err(failure) = ran {
        panic!("{failure}");
    }
}
