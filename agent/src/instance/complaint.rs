//! What goes wrong ten times a second is said once, and then once a minute with how often it was.

use primacy_core::{Span, Time};
use std::cell::RefCell;

/// How long the same words aren't said again.
const EVERY: Span = Span::secs(60);

/// Something that is said again and again.
#[derive(Default)]
pub struct Complaint(RefCell<Option<Said>>);

struct Said {
    what: String,
    at: Time,
    since: u32,
}

impl Complaint {
    /// How often it was swallowed since it was last said, if it is to be said now.
    pub fn is_due(&self, now: Time, what: &str) -> Option<u32> {
        let mut said = self.0.borrow_mut();
        match &mut *said {
            Some(said) if said.what == what && now < said.at + EVERY => {
                said.since += 1;
                None
            }
            other => {
                let same = other.take().filter(|said| said.what == what);
                *other = Some(Said { what: what.to_owned(), at: now, since: 0 });
                Some(same.map_or(0, |said| said.since))
            }
        }
    }

    /// It went well: the next time is news.
    pub fn forget(&self) {
        self.0.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_with_its_number() {
        let (complaint, at) = (Complaint::default(), |seconds| Time(1) + Span::secs(seconds));
        assert_eq!(complaint.is_due(at(0), "no"), Some(0));
        assert_eq!((complaint.is_due(at(1), "no"), complaint.is_due(at(59), "no")), (None, None));
        assert_eq!(complaint.is_due(at(60), "no"), Some(2));
        assert_eq!(complaint.is_due(at(61), "never"), Some(0), "another matter");
        assert_eq!(complaint.is_due(at(62), "no"), Some(0));
        complaint.forget();
        assert_eq!(complaint.is_due(at(63), "no"), Some(0), "again, after it went well");
    }
}
