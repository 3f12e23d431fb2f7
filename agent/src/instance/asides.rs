//! Copies that were moved aside are kept by rule; that they take too much room is said, and said again.

use primacy_postgres::{Instant, Keep, Postgres};
use std::collections::BTreeSet;
use std::time::Duration;

/// Between two looks at them.
const EVERY: Duration = Duration::from_secs(600);

/// Between two complaints about the room, if nothing is done about it.
const AGAIN: Duration = Duration::from_secs(6 * 3_600);

/// Removes those that need not be kept any more, for as long as the runtime lives.
pub(super) async fn tend(postgres: Postgres, keep: Keep) {
    let (mut said, mut complain) = (BTreeSet::new(), Instant::now());
    loop {
        let until = Instant::now() + EVERY;
        match postgres.prune_aside(keep, until).await {
            Ok(pruned) => {
                for path in &pruned.removed {
                    tracing::info!(path = %path.display(), "removed a copy that was moved aside long ago");
                }
                match &pruned.short {
                    None => complain = Instant::now(),
                    Some(short) if Instant::now() >= complain => {
                        tracing::error!("{short}");
                        complain = Instant::now() + AGAIN;
                    }
                    Some(_) => {}
                }
                let odd: BTreeSet<String> = pruned.odd.into_iter().collect();
                odd.difference(&said).for_each(|sentence| tracing::warn!("{sentence}"));
                said = odd;
            }
            Err(error) => {
                tracing::warn!(%error, "copies that were moved aside are not gone yet, tries again")
            }
        }
        tokio::time::sleep_until(until).await;
    }
}

/// Says so if a copy as large as the last one that was moved aside would find no room. It is tried all the same: the
/// source may be smaller by now.
pub(super) fn warn_if_short(postgres: &Postgres) {
    let newest = postgres.asides().ok().and_then(|copies| copies.last()?.manifest.bytes);
    if let Some(short) = newest.and_then(|bytes| postgres.short_of(bytes).ok()?) {
        tracing::error!("{short}");
    }
}
