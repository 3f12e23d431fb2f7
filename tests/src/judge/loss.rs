//! Which acknowledged rows are gone.

use serde::{Deserialize, Serialize};

use crate::client::{Ack, Missing, Writer};
use crate::network::Host;
use crate::time::Moment;

/// Acknowledged rows that the final primary lacks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// How many rows were acknowledged at all.
    pub acked: usize,
    /// How many of them are gone.
    pub rows: usize,
    /// How many of those the client that knows all nodes had written.
    pub of_steady: usize,
    /// When the first and the last of them were acknowledged.
    pub between: Option<(Moment, Moment)>,
    /// Which nodes had acknowledged them.
    pub hosts: Vec<Host>,
}

/// Counts the acknowledged rows that are missing.
pub fn loss(acks: &[Ack], missing: &Missing) -> Loss {
    let lost: Vec<&Ack> = acks.iter().filter(|ack| missing.contains(&ack.id)).collect();
    let times = || lost.iter().map(|ack| ack.acked);
    let mut hosts: Vec<Host> = lost.iter().map(|ack| ack.host).collect();
    hosts.sort();
    hosts.dedup();
    Loss {
        acked: acks.len(),
        rows: lost.len(),
        of_steady: lost.iter().filter(|ack| ack.writer == Writer::Steady).count(),
        between: times().min().zip(times().max()),
        hosts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::example::{ack, acks};

    #[test]
    fn nothing_missing_is_no_loss() {
        let all = acks(Writer::Steady, 1, 1, 0..1_000);
        assert_eq!(loss(&all, &Missing::new()), Loss { acked: 40, ..Loss::default() });
    }

    #[test]
    fn missing_rows_are_counted_by_writer_and_dated() {
        let all =
            [ack(Writer::Steady, 1, 1, 10), ack(Writer::Pinned, 1, 1, 20), ack(Writer::Steady, 2, 2, 30)];
        let found = loss(&all, &Missing::from([10, 20]));
        assert_eq!((found.rows, found.of_steady, found.hosts), (2, 1, vec![Host(1)]));
        assert_eq!(found.between, Some((Moment(10_000), Moment(20_000))));
    }
}
