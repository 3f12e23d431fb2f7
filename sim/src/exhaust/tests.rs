use super::*;

fn story() -> Scenario {
    let text = "# x\nlasts 9s\n8s switchover asked of primary, to standby\n";
    primacy_scenarios::parse("x", text).unwrap()
}

#[test]
fn a_trouble_that_is_written_is_read() {
    let added = Added { step: 217, what: "host dies a".parse().unwrap(), for_ms: 12_500 };
    assert_eq!(added.to_string(), "217: host dies a for 12.500s");
    assert_eq!(added.to_string().parse::<Added>().unwrap(), added);
    assert!(format!("{:#}", "217".parse::<Added>().unwrap_err()).contains("STEP: TROUBLE"));
    assert!(format!("{:#}", "x: store down".parse::<Added>().unwrap_err()).contains("\"x\" is no step"));
}

/// A copy goes on as the original does, and is what the same trouble is in a run of its own.
#[test]
fn a_trouble_at_a_step_is_the_same_from_a_copy_and_from_the_beginning() {
    let story = story();
    let work = Work::new(&story, 0, 0);
    let mut play = Play::of(&story, false);
    for _ in 0..work.first {
        play.next();
    }
    assert_eq!(play.clone().finish(work.first, &[]).fingerprint, work.plain);
    let added = Added { step: work.first + 9, what: "host dies a".parse().unwrap(), for_ms: 3_000 };
    let from_a_copy = play.finish(work.first, &[added]);
    let from_the_beginning = Play::of(&story, true).finish(0, &[added]);
    assert_eq!(from_a_copy.fingerprint, from_the_beginning.fingerprint);
    assert_ne!(from_a_copy.fingerprint, work.plain);
    assert!(from_the_beginning.story.contains("host a dies"), "{}", from_the_beginning.story);
}

#[test]
fn every_step_has_every_trouble_and_pairs_are_in_order() {
    let story = story();
    let work = Work::new(&story, 50, 7);
    assert!(work.letters.len() > 80 && work.end - work.first > 30, "{} {}", work.letters.len(), work.end);
    assert_eq!(work.runs(), (work.end - work.first) * work.letters.len() as u64 + 50);
    let pairs: Vec<_> = work.pairs.values().flatten().collect();
    assert_eq!(pairs.len(), 50);
    let in_order = |pair: &[Added; 2]| {
        work.first <= pair[0].step && pair[0].step <= pair[1].step && pair[1].step < work.end
    };
    assert!(pairs.iter().all(|pair| in_order(pair)));
}

/// After the end of the story everything is mended, and what comes then would count as a fault of the cluster.
#[test]
fn nothing_is_added_after_the_end_of_the_story() {
    let story = story();
    let work = Work::new(&story, 0, 0);
    let late = Added { step: work.end + 1_000, what: "store down".parse().unwrap(), for_ms: 12_500 };
    let outcome = Play::of(&story, false).finish(0, &[late]);
    assert_eq!((outcome.violation, outcome.fingerprint), (None, work.plain));
}
