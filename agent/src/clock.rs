//! The host's clock: `CLOCK_BOOTTIME`, which goes on while the host is suspended.

use primacy_core::{Span, Time};
use primacy_driver::Clock;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub struct BootClock;

/// How long to sleep at a time when the kernel gives no timer.
const NAP: Duration = Duration::from_millis(20);

impl Clock for BootClock {
    fn now(&self) -> Time {
        now()
    }

    async fn sleep_until(&self, time: Time) {
        sleep_until(time).await;
    }
}

/// The time now.
pub fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let micros = u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000;
    Time(seconds * 1_000_000 + micros)
}

/// Ends at `time`. Tokio's own timers stand still while the host is suspended and are a millisecond late.
pub async fn sleep_until(time: Time) {
    if now() >= time {
        return;
    }
    match timer(time) {
        Ok(timer) => {
            // An error here could only be one of the runtime's; the loop below then does the waiting.
            let _ = timer.readable().await;
        }
        Err(error) => tracing::warn!(%error, "no kernel timer, naps instead"),
    }
    while now() < time {
        tokio::time::sleep(NAP.min(duration(time.since(now())))).await;
    }
}

fn timer(time: Time) -> std::io::Result<AsyncFd<OwnedFd>> {
    let fd = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let at = Timespec {
        tv_sec: i64::try_from(time.0 / 1_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(time.0 % 1_000_000).unwrap_or_default() * 1_000,
    };
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(&fd, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval: never, it_value: at })?;
    // SAFETY: the descriptor is open, and owned by the `AsyncFd` from here on; nothing else closes or replaces it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) }?)
}

/// The same length of time for those who use the standard library's.
pub fn duration(span: Span) -> Duration {
    Duration::from_micros(span.0)
}

/// An instant of the runtime's clock that lies as far ahead as `time` does on ours.
pub fn instant(time: Time) -> tokio::time::Instant {
    tokio::time::Instant::now() + duration(time.since(now()))
}

/// The calendar's time in UTC, as Patroni writes it: `2026-11-23T15:36:55.670380+00:00`.
pub fn calendar_now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    calendar(since)
}

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn calendar(since_1970: Duration) -> String {
    let (days, rest) = (since_1970.as_secs() / 86_400, since_1970.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    let micros = since_1970.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}+00:00")
}

/// The date a number of days after 1970-01-01, counted in eras of 400 years that begin in March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_knows_leap_years() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000+00:00"),
            (951_782_400, "2000-02-29T00:00:00.000000+00:00"),
            (1_764_000_000, "2025-11-24T16:00:00.000000+00:00"),
            (4_107_542_400, "2100-03-01T00:00:00.000000+00:00"),
        ];
        for (seconds, text) in cases {
            assert_eq!(calendar(Duration::from_secs(seconds)), text);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_sleep_ends_when_it_should() {
        let until = now() + Span::millis(30);
        sleep_until(until).await;
        let late = now().since(until);
        assert!(now() >= until && late < Span::millis(20), "{late} late");
    }
}
