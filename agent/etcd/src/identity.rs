//! Which cluster is meant. An address may come to belong to another one: a member was set up anew by itself, or the
//! list of endpoints has a wrong one. What that cluster says, and be it that it has nothing, is no answer.
//!
//! A client settles on one cluster before its first request and stays with it for life. Each new connection is asked
//! which cluster it leads to, before anything else is sent over it.

use crate::Endpoint;

/// What to do about an endpoint of another cluster.
const REMEDY: &str =
    "correct etcd3.hosts, or remove that member's data and add it to the cluster (etcdctl member add)";

/// What the endpoints that answered say.
pub(crate) type Answers = [(Endpoint, u64)];

/// The cluster to settle on, once some of `endpoints` many have answered: `earlier`, if just one of them belongs to it;
/// else the one they agree on. To take another one than `earlier` takes more than half of all: a cluster that was
/// made anew has that many, or it wouldn't work, but not a single stranger.
pub(crate) fn settle(earlier: Option<u64>, endpoints: usize, answers: &Answers) -> Result<u64, String> {
    let has = |id: u64| answers.iter().filter(|(_, other)| *other == id).count();
    if let Some(earlier) = earlier.filter(|id| has(*id) > 0) {
        return Ok(earlier);
    }
    let Some((_, id)) = answers.first() else { return Err("no endpoint has answered".to_owned()) };
    if has(*id) < answers.len() {
        return Err(format!("the endpoints belong to different clusters, {}: {REMEDY}", list(answers)));
    }
    match earlier {
        Some(earlier) if has(*id) * 2 <= endpoints => Err(format!(
            "the cluster was {earlier:x} before, and those that answer belong to another one, {}: {REMEDY}; if etcd was \
             made anew, it is taken once more than half of the endpoints answer",
            list(answers)
        )),
        Some(_) | None => Ok(*id),
    }
}

/// What is wrong with an endpoint of cluster `found`.
pub(crate) fn stranger(endpoint: &Endpoint, found: u64, settled: u64) -> String {
    format!(
        "{endpoint} belongs to the cluster {found:x}, and the one in use is {settled:x}: {REMEDY}; if etcd was made anew, \
         stop all agents and start them again"
    )
}

fn list(answers: &Answers) -> String {
    let each = answers.iter().map(|(endpoint, id)| format!("{endpoint} to {id:x}"));
    each.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(earlier: Option<u64>, endpoints: usize, ids: &[u64]) -> Option<u64> {
        let endpoint = |number: usize| format!("a:{}", number + 1).parse().expect("an endpoint");
        let answers: Vec<_> = ids.iter().enumerate().map(|(number, id)| (endpoint(number), *id)).collect();
        settle(earlier, endpoints, &answers).ok()
    }

    #[test]
    fn at_first_all_who_answer_must_agree() {
        assert_eq!(settled(None, 3, &[]), None);
        assert_eq!(settled(None, 3, &[1]), Some(1), "as the others are down");
        assert_eq!(settled(None, 3, &[1, 1, 2]), None);
    }

    #[test]
    fn the_earlier_cluster_counts_as_soon_as_one_belongs_to_it() {
        assert_eq!(settled(Some(2), 3, &[1, 1, 2]), Some(2));
    }

    #[test]
    fn only_most_of_the_endpoints_can_replace_the_earlier_cluster() {
        assert_eq!(settled(Some(2), 1, &[1]), Some(1));
        assert_eq!(settled(Some(2), 2, &[1]), None);
        assert_eq!(settled(Some(2), 3, &[1, 1]), Some(1));
        assert_eq!(settled(Some(2), 3, &[1, 1, 3]), None);
    }

    #[test]
    fn what_is_wrong_names_the_endpoints_their_clusters_and_the_remedy() {
        let answers = [("a:1".parse().expect("one"), 0xa), ("b:1".parse().expect("one"), 0xb)];
        let why = settle(None, 2, &answers).expect_err("two clusters");
        let expected =
            "the endpoints belong to different clusters, a:1 to a, b:1 to b: correct etcd3.hosts, or remove";
        assert!(why.starts_with(expected), "{why}");
    }
}
