//! Who may be elected next.

use crate::host::*;
use primacy_core::store::{Member, Record, Rule};
use primacy_core::{CopyId, Epoch};

/// The rule of the primary `a`, which these members stream from.
fn rule_of(a: &mut Host, followers: &[(&str, u64)]) -> Rule {
    a.sees(writable(at(2, 200), followers));
    a.settle();
    a.store.rule.as_ref().expect("a rule").value.as_ref().clone()
}

#[test]
fn who_could_be_elected_before_stays_and_who_streams_is_added() {
    let mut a = Host::primary();
    a.news([Record::Member(member("d", 1))]);
    assert_eq!(rule_of(&mut a, &[("d", 1)]), rule(2, "a", &["b", "c", "d"]));
}

#[test]
fn a_new_holder_lists_the_last_leader_but_not_itself() {
    let mut store = reign_of_a(2);
    write(&mut store, [Record::Reign(reign(2, "b")), Record::Rule(rule(2, "b", &["a"]))]);
    let mut a = Host::new(config("a"), saved("a", &[1, 2]), store, in_recovery(at(2, 200)));
    a.begin();
    a.wake_at(START + secs(5));
    a.settle();
    assert_eq!(a.role(), "primary");
    assert_eq!(**a.store.rule.as_ref().expect("a rule"), rule(3, "a", &["b"]));
}

#[test]
fn a_leader_of_the_same_epoch_is_not_added_to_its_own_list() {
    let mut a = Host::primary();
    assert_eq!(rule_of(&mut a, &[]), rule(2, "a", &["b", "c"]));
}

#[test]
fn a_member_with_a_new_copy_is_listed_only_once_that_streams() {
    let mut a = Host::primary();
    let copy = CopyId(1);
    a.news([Record::Member(Member { copy, ..member("b", 1) })]);
    assert_eq!(rule_of(&mut a, &[]), rule(2, "a", &["c"]));
    let mut with_b = rule(2, "a", &["c"]);
    with_b.electable.insert("b".into(), copy);
    assert_eq!(rule_of(&mut a, &[("b", 1)]), with_b);
}

#[test]
fn a_member_of_priority_zero_is_not_listed_even_if_it_streams() {
    let mut a = Host::primary();
    a.news([Record::Member(member("b", 0))]);
    assert_eq!(rule_of(&mut a, &[("b", 200), ("c", 200)]), rule(2, "a", &["c"]));
}

#[test]
fn who_streams_without_having_said_which_copy_it_has_is_not_listed() {
    let mut a = Host::primary();
    assert_eq!(rule_of(&mut a, &[("x", 200)]), rule(2, "a", &["b", "c"]));
}

#[test]
fn a_listed_member_that_has_said_nothing_of_itself_stays() {
    let mut a = Host::primary();
    let mut before = rule(2, "a", &["b", "c", "x"]);
    before.epoch = Epoch(2);
    a.news([Record::Rule(before.clone())]);
    assert_eq!(rule_of(&mut a, &[]), before);
}

#[test]
fn a_rule_that_stays_as_it_is_is_not_written_again() {
    let mut a = Host::primary();
    rule_of(&mut a, &[("b", 1)]);
    assert_eq!(a.sees(writable(at(2, 201), &[("b", 201)])), []);
}
