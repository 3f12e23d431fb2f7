//! The guard: the process that stops PostgreSQL when its deadline passes, whatever the agent does.
//!
//! PostgreSQL must not be writable for a moment longer than its node's authority lasts. The agent can't see to that: it
//! may crash, freeze or be starved. So PostgreSQL is the child of this process, which does nothing but wait for its
//! deadline: the fence F, on a clock that counts suspended time. The agent moves F forward each time the store has
//! confirmed its lease; if it doesn't, the guard kills every process of the instance at F.
//!
//! - [`server`] is the guard: one thread, one loop, states `idle` and `armed(epoch, F)`.
//! - [`kill`] finds and kills the processes of an instance, and never a stranger. The agent uses it, too, when the
//!   guard itself has died.
//! - [`client`] is the agent's end.
//! - [`wire`] is what they say to each other, a line of JSON each.
//!
//! Rules, in the order of their weight:
//!
//! 1. Armed ends only when no process of the instance is left.
//! 2. F only moves forward, and only for the epoch the guard is armed for.
//! 3. PostgreSQL is started as primary only while armed for just that epoch; else only in recovery; and if it leaves
//!    recovery while the guard isn't armed, it is killed.
//! 4. One agent speaks at a time. A new connection replaces the old one: an agent that thaws finds its own closed.

pub mod cgroup;
pub mod client;
pub mod kill;
pub mod server;
pub mod wire;

use std::io::Write;

/// Microseconds since boot, suspended time included: the clock on which F is given.
pub fn now_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}

/// `primacy guard [--launch] --run-dir R --data-dir D`, called before any runtime is started. With `--launch` it only
/// starts the guard proper and leaves.
pub fn main(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> std::process::ExitCode {
    let (mut launch, mut run_dir, mut data_dir) = (false, None, None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--launch") => launch = true,
            Some("--run-dir") => run_dir = arguments.next(),
            Some("--data-dir") => data_dir = arguments.next(),
            _ => return fail(&format!("unknown argument {}", argument.display())),
        }
    }
    let (Some(run_dir), Some(data_dir)) = (run_dir, data_dir) else {
        return fail("--run-dir and --data-dir are needed");
    };
    let options = server::Options { run_dir: run_dir.into(), data_dir: data_dir.into() };
    let outcome =
        if launch { client::launch(&options.run_dir, &options.data_dir) } else { server::run(&options) };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(why) => fail(&why.to_string()),
    }
}

/// Says something on stderr. Whoever reads that may be gone, and the guard must go on.
pub(crate) fn tell(what: &str) {
    let _ = writeln!(std::io::stderr(), "guard: {what}");
}

/// The same for what may be so again in a moment: the same words are said once in ten seconds.
pub(crate) fn tell_once(what: &str) {
    static SAID: std::sync::Mutex<Option<(String, u64)>> = std::sync::Mutex::new(None);
    let mut said = SAID.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let now = now_us();
    if said.as_ref().is_none_or(|(words, at)| words != what || now >= at + 10_000_000) {
        *said = Some((what.to_owned(), now));
        tell(what);
    }
}

fn fail(why: &str) -> std::process::ExitCode {
    tell(why);
    std::process::ExitCode::FAILURE
}
