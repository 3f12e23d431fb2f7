//! An instance whose processes are there and do nothing: stopped by somebody, or waiting for storage that hangs.

use super::event::{Event, HostId};
use super::postgres::{Postgres, Process};
use super::{Trail, World};

impl World {
    /// All processes of the instance are stopped (SIGSTOP).
    pub(crate) fn postgres_hangs(&mut self, host: HostId) -> bool {
        let (now, one) = (self.now, self.host(host));
        let changes = one.awake() && one.postgres.process != Process::Down && !one.postgres.hangs();
        if changes {
            one.postgres.stopped = true;
            one.postgres.hangs_since = now;
        }
        changes
    }

    /// They go on.
    pub(crate) fn postgres_goes_on(&mut self, host: HostId, trail: &mut Trail) -> bool {
        std::mem::take(&mut self.host(host).postgres.stopped) && self.go_on(host, trail)
    }

    /// Whoever reads or writes waits, and can't even be killed as long as that lasts.
    pub(crate) fn storage_hangs(&mut self, host: HostId) -> bool {
        let (now, one) = (self.now, self.host(host));
        if !one.awake() || std::mem::replace(&mut one.postgres.stuck, true) {
            return false;
        }
        one.postgres.hangs_since = now;
        true
    }

    /// The storage answers again. What was killed meanwhile is gone now, and has told nobody anything.
    pub(crate) fn storage_goes_on(&mut self, host: HostId, trail: &mut Trail) -> bool {
        let postgres = &mut self.host(host).postgres;
        if !std::mem::take(&mut postgres.stuck) {
            return false;
        }
        if std::mem::take(&mut postgres.doomed) {
            postgres.die();
        }
        self.go_on(host, trail)
    }

    fn go_on(&mut self, host: HostId, trail: &mut Trail) -> bool {
        trail.possible.extend([Event::Look(host), Event::Replicate(host), Event::Replayed(host)]);
        self.offer(host, trail);
        true
    }
}

impl Postgres {
    /// Whether its processes do nothing: no statement is answered, no WAL sent or received.
    pub fn hangs(&self) -> bool {
        self.stopped || self.stuck
    }

    /// Every process is killed. Says whether all are gone: those that wait for the storage only go when it answers.
    pub fn kill(&mut self) -> bool {
        if self.stuck && self.process != Process::Down {
            self.doomed = true;
            self.orphans = false;
            return false;
        }
        self.die();
        true
    }
}
