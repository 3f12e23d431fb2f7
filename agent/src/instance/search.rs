//! The question whether the WAL that is needed next is gone, beside the looks: an archive may take its time for an
//! answer, and nobody else waits for it.

use primacy_postgres::Error;
use std::time::Duration;
use tokio::task::JoinHandle;

/// One question at a time, and what came of the last one.
#[derive(Default)]
pub(super) struct Search {
    asking: Option<JoinHandle<Result<bool, Error>>>,
    doubt: Option<String>,
}

impl Search {
    /// Asks, unless an answer is still due. Says whether it did.
    pub(super) fn begin(
        &mut self,
        question: impl Future<Output = Result<bool, Error>> + Send + 'static,
    ) -> bool {
        if self.asking.is_some() {
            return false;
        }
        self.asking = Some(tokio::spawn(question));
        true
    }

    /// Whether there is an answer that nobody has taken yet.
    pub(super) fn is_answered(&self) -> bool {
        self.asking.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// That answer, which needs no wait any more, if there is one.
    pub(super) fn take(&mut self) -> Option<JoinHandle<Result<bool, Error>>> {
        if self.is_answered() { self.asking.take() } else { None }
    }

    /// Whether the WAL is gone, if the answer tells. If it doesn't, why is kept for whoever complains.
    pub(super) fn weigh(&mut self, answer: Result<bool, Error>, patience: Duration) -> Option<bool> {
        let (known, doubt) = match answer {
            Ok(gone) => (Some(gone), None),
            Err(Error::TimedOut(what)) => {
                (None, Some(format!("{what} took longer than {} s", patience.as_secs())))
            }
            Err(error) => (None, Some(error.to_string())),
        };
        self.doubt = doubt;
        known
    }

    /// Why it isn't known whether the WAL is gone, if that was asked and not found out.
    pub(super) fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    const MINUTE: Duration = Duration::from_secs(60);

    async fn answered(search: &mut Search) -> Option<bool> {
        while !search.is_answered() {
            tokio::task::yield_now().await;
        }
        let answer = search.take().expect("an answer").await.expect("no panic");
        search.weigh(answer, MINUTE)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_slow_archive_holds_nobody_up_and_is_heard_all_the_same() {
        let mut search = Search::default();
        let (say, hear) = oneshot::channel();
        assert!(search.begin(async { hear.await.expect("an answer") }));
        for _ in 0..3 {
            // Other looks, meanwhile.
            tokio::task::yield_now().await;
            assert!(search.take().is_none() && !search.begin(async { Ok(false) }), "one at a time");
        }
        say.send(Ok(true)).expect("it is asked still");
        assert_eq!(answered(&mut search).await, Some(true));
        assert!(search.begin(async { Err(Error::TimedOut("restore_command")) }));
        assert_eq!(answered(&mut search).await, None);
        assert_eq!(search.doubt(), Some("restore_command took longer than 60 s"));
        assert!(search.begin(async { Ok(false) }));
        assert_eq!((answered(&mut search).await, search.doubt()), (Some(false), None));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_question_ends_when_nobody_wants_its_answer_any_more() {
        let mut search = Search::default();
        let (alive, ended) = oneshot::channel::<()>();
        search.begin(async {
            let _alive = alive;
            std::future::pending().await
        });
        tokio::task::yield_now().await;
        drop(search);
        let ended = tokio::time::timeout(MINUTE, ended).await.expect("it ended");
        assert!(ended.is_err(), "nothing was said");
    }
}
