//! The guard itself: one thread, one loop.

use crate::cgroup::Group;
use crate::kill::Instance;
use crate::proc::Proc;
use crate::wire::{Ask, News, Reply, Request, Say, Start, Status, Why};
use crate::{cgroup, now_us, tell};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock, inotify};
use rustix::io::Errno;
use rustix::mm::MlockAllFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, pidfd_send_signal, wait};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Where a guard lives and what it watches over.
#[derive(Clone, Debug)]
pub struct Options {
    /// Holds the lock and the socket; one such folder for each data directory.
    pub run_dir: PathBuf,
    /// The data directory; need not exist yet.
    pub data_dir: PathBuf,
}

/// The socket's name in the run directory.
pub const SOCKET: &str = "guard.sock";
/// What the guard has to say goes to this file in the run directory; each guard begins it anew.
pub const LOG: &str = "guard.log";
/// The lock's name in the run directory.
pub const LOCK: &str = "guard.lock";
/// The longest one round of killing goes on before the loop looks around again.
const KILL_ROUND: Duration = Duration::from_millis(200);
/// Between two attempts at what the kernel has no memory, or no descriptors, for.
const NAP: Duration = Duration::from_millis(5);
/// With nothing to watch over and no agent, a guard goes after this long.
const ALONE_US: u64 = 30_000_000;
/// Somebody has asked it to end.
static ASKED: AtomicBool = AtomicBool::new(false);
/// A line longer than this is no request of ours.
const LINE_MAX: usize = 1 << 16;

/// Runs until it has had nothing to watch over, and no agent, for a while.
///
/// # Errors
/// If another guard holds the lock, or the run directory can't be used.
pub fn run(options: &Options) -> io::Result<()> {
    // The agent's terminal, its process group and its death must not reach the guard.
    prefer("a session of its own", rustix::process::setsid().map(drop));
    let own = rustix::process::getpid();
    prefer("to be given the instance's orphans", rustix::process::set_child_subreaper(Some(own)));
    let locked = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    prefer("its memory kept from being swapped", rustix::mm::mlockall(locked));
    prefer("to be killed last when memory is short", std::fs::write("/proc/self/oom_score_adj", "-900"));
    outlive_a_shutdown();
    let lock = lock(&options.run_dir)?;
    let mut guard = Guard::new(options, lock)?;
    let mut alone_since = now_us();
    while now_us() < alone_since + ALONE_US {
        guard.turn();
        if !guard.is_alone() {
            alone_since = now_us();
        } else if ASKED.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(())
}

/// When a host goes down, or a service manager ends all that it started, everybody is asked to end at once. The agent
/// then stops PostgreSQL in order and hands over, and the guard is needed until nothing is left to watch over.
///
/// Then it goes at once. Handlers, as signals that are ignored would stay so in PostgreSQL.
fn outlive_a_shutdown() {
    extern "C" fn heard(_: libc::c_int) {
        ASKED.store(true, Ordering::Relaxed);
    }
    let handler = heard as extern "C" fn(libc::c_int);
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        // SAFETY: the handler stores one number.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    // SAFETY: that is how it is unless the agent was started by somebody who ignores it. Children that vanish by
    // themselves would leave their numbers to strangers.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// What the guard can do without, but says so.
fn prefer<E: std::fmt::Display>(what: &str, outcome: Result<(), E>) {
    if let Err(why) = outcome {
        tell(&format!("could not get {what}: {why}"));
    }
}

fn lock(run_dir: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(run_dir.join(LOCK))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| io::Error::new(io::ErrorKind::AddrInUse, "another guard holds the lock"))?;
    Ok(file)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// PostgreSQL may run in recovery only.
    Idle,
    /// It is killed at `until`.
    Armed { epoch: u32, until: u64 },
}

struct Guard {
    data_dir: PathBuf,
    _lock: File,
    listener: UnixListener,
    agent: Option<Agent>,
    state: State,
    proc: Arc<Proc>,
    instance: Instance,
    group: Result<Arc<Group>, String>,
    /// Why the last round of killing was not the last, as it was told.
    unfinished: Option<String>,
    /// The postmaster that was started, while its end has not been told yet.
    postmaster: Option<OwnedFd>,
    /// Runs out at the fence, on the clock that counts suspended time.
    timer: OwnedFd,
    /// Tells of `standby.signal` being removed; made anew for each start.
    signal: Option<OwnedFd>,
    /// Why nothing tells of that, if so. It is looked for once a second then.
    blind: Option<String>,
}

/// What there is to do.
struct Ready {
    listener: bool,
    agent: bool,
    postmaster: bool,
}

fn add<'a>(fds: &mut Vec<PollFd<'a>>, fd: PollFd<'a>) -> usize {
    fds.push(fd);
    fds.len() - 1
}

struct Agent {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Guard {
    fn new(options: &Options, lock: File) -> io::Result<Guard> {
        let proc = Arc::new(Proc::open()?);
        let socket = options.run_dir.join(SOCKET);
        // The lock is ours, so whoever made this socket is gone.
        drop(std::fs::remove_file(&socket));
        let listener = UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        let group = cgroup::prepare(&options.data_dir).map(Arc::new);
        let instance =
            Instance::new(&options.data_dir, group.as_ref().ok().cloned(), proc.clone()).below_me();
        let data_dir = options.data_dir.clone();
        Ok(Guard {
            data_dir,
            _lock: lock,
            listener,
            agent: None,
            state: State::Idle,
            proc,
            instance,
            group,
            unfinished: None,
            postmaster: None,
            timer: timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?,
            signal: None,
            blind: None,
        })
    }

    fn is_alone(&self) -> bool {
        self.agent.is_none() && self.postmaster.is_none() && self.state == State::Idle
    }

    /// Waits for something to do, and does it. The fence comes before everything else.
    fn turn(&mut self) {
        let ready = self.wait();
        reap();
        if self.fence_fell() {
            self.kill_by_itself(Why::Fence);
        }
        self.look_for_promotion();
        if ready.postmaster {
            self.postmaster_ended();
        }
        if ready.listener {
            self.accept();
        }
        if ready.agent {
            self.hear();
        }
    }

    /// Looks around once a second even if nothing happens: orphans are reaped then. Where the kernel can't even wait,
    /// it goes on by looking often: the guard's end would be that of PostgreSQL.
    fn wait(&self) -> Ready {
        let mut fds =
            vec![PollFd::new(&self.listener, PollFlags::IN), PollFd::new(&self.timer, PollFlags::IN)];
        let agent = self.agent.as_ref().map(|agent| add(&mut fds, PollFd::new(&agent.stream, PollFlags::IN)));
        fds.extend(self.signal.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let postmaster = self.postmaster.as_ref().map(|fd| add(&mut fds, PollFd::new(fd, PollFlags::IN)));
        match poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => {
                std::thread::sleep(NAP);
                return Ready { listener: true, agent: true, postmaster: false };
            }
        }
        let ready = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
        Ready { listener: ready(Some(0)), agent: ready(agent), postmaster: ready(postmaster) }
    }

    fn fence_fell(&self) -> bool {
        matches!(self.state, State::Armed { until, .. } if now_us() >= until)
    }

    /// One round of killing, which says why it isn't the last. The handle of the postmaster comes first: for that
    /// nothing has to be found or opened. It is the kernel that says at last whether any child is left.
    fn kill(&mut self) -> Result<(), String> {
        if let Some(postmaster) = &self.postmaster {
            // Refused only if it has ended.
            pidfd_send_signal(postmaster, Signal::KILL).unwrap_or_default();
        }
        let mut outcome = self.instance.kill(KILL_ROUND);
        if reap() && outcome.is_ok() {
            outcome = Err("a process that PostgreSQL has started is not gone yet".to_owned());
        }
        let why = outcome.as_ref().err();
        if let Some(why) = why.filter(|why| self.unfinished.as_ref() != Some(why)) {
            tell(&format!("goes on killing: {why}"));
        }
        self.unfinished = why.cloned();
        outcome
    }

    /// Kills everything, and stays armed until nothing is left.
    fn kill_by_itself(&mut self, why: Why) {
        if self.kill().is_err() {
            return self.set_timer();
        }
        self.nothing_left();
        self.say(&Say::News(News::Killed(why)));
    }

    /// `standby.signal` goes before the first write of a promotion. Unless it was ordered, that is one too many. Looked
    /// for in every turn: the watch may be missing, and a kill unfinished.
    fn look_for_promotion(&mut self) {
        if let Some(signal) = &self.signal {
            let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
            let mut reader = inotify::Reader::new(signal, &mut buffer);
            while reader.next().is_ok() {}
        }
        let gone = !self.data_dir.join("standby.signal").exists();
        if gone && self.postmaster.is_some() && self.state == State::Idle {
            self.kill_by_itself(Why::Promotion);
        }
    }

    /// The postmaster ended by itself, or was killed by somebody: what it left behind is killed, then told. While armed
    /// it stays so: the holder may start its primary again, in the same epoch.
    fn postmaster_ended(&mut self) {
        if self.kill().is_ok() {
            (self.postmaster, self.signal) = (None, None);
            self.say(&Say::News(News::Exited));
        }
    }

    /// No process of the instance is left.
    fn nothing_left(&mut self) {
        self.state = State::Idle;
        (self.postmaster, self.signal) = (None, None);
        self.set_timer();
    }

    /// Sets the timer to the fence; while a kill is unfinished, to a moment from now.
    fn set_timer(&self) {
        let until = match self.state {
            State::Idle => 0,
            State::Armed { until, .. } => until.max(now_us() + 1_000),
        };
        let at = Timespec {
            tv_sec: (until / 1_000_000).cast_signed(),
            tv_nsec: (until % 1_000_000 * 1_000).cast_signed(),
        };
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timer = Itimerspec { it_interval: none, it_value: at };
        // It can only fail for a time that isn't one.
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &timer).expect("set the timer");
    }

    /// A new agent replaces the old one, whose connection is closed.
    fn accept(&mut self) {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            // Whoever waits goes on waiting, and would keep the loop busy.
            Err(_) => return std::thread::sleep(NAP),
        };
        if stream.set_nonblocking(true).is_ok() {
            self.agent = Some(Agent { stream, buffer: Vec::new() });
        }
    }

    fn hear(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        let mut chunk = [0; 4096];
        loop {
            match agent.stream.read(&mut chunk) {
                Ok(0) => {
                    self.agent = None;
                    return;
                }
                Ok(n) => agent.buffer.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.agent = None;
                    return;
                }
            }
        }
        for line in self.lines() {
            let Ok(ask) = serde_json::from_slice::<Ask>(&line) else {
                self.agent = None;
                return;
            };
            let reply = self.answer(ask.request);
            self.say(&Say::Answer(ask.id, reply));
        }
    }

    fn lines(&mut self) -> Vec<Vec<u8>> {
        let Some(agent) = &mut self.agent else { return Vec::new() };
        let mut lines = Vec::new();
        while let Some(end) = agent.buffer.iter().position(|byte| *byte == b'\n') {
            lines.push(agent.buffer.drain(..=end).collect());
        }
        if agent.buffer.len() > LINE_MAX {
            self.agent = None;
        }
        lines
    }

    /// Never waits for an agent that doesn't read: it is as good as gone then.
    fn say(&mut self, say: &Say) {
        let Some(agent) = &mut self.agent else { return };
        let Ok(mut line) = serde_json::to_vec(say) else { return };
        line.push(b'\n');
        if agent.stream.write_all(&line).is_err() {
            self.agent = None;
        }
    }

    fn answer(&mut self, request: Request) -> Reply {
        let refused = match request {
            Request::Status => None,
            Request::Look => return Reply::Status(Status { left: Some(self.any_left()), ..self.status() }),
            Request::Arm { epoch, until } => self.arm(epoch, until).err(),
            Request::Start(start) => self.start(&start).err(),
            Request::Kill => self.kill_on_demand().err(),
        };
        refused.map_or_else(|| Reply::Status(self.status()), Reply::Refused)
    }

    /// A search takes a while on a host with many processes, and meanwhile the fence isn't moved. While the postmaster
    /// lives there is no need for one.
    fn any_left(&self) -> bool {
        self.postmaster.as_ref().is_some_and(is_alive) || self.instance.any_left()
    }

    /// Without a search of all processes: it is asked for at each beat of the lease.
    fn status(&self) -> Status {
        let armed = match self.state {
            State::Idle => None,
            State::Armed { epoch, until } => Some((epoch, until)),
        };
        let pid = std::process::id().cast_signed();
        Status { armed, left: None, pid, weak: self.weak() }
    }

    fn weak(&self) -> Option<String> {
        let reasons: Vec<&str> =
            self.group.as_ref().err().into_iter().chain(&self.blind).map(|why| &**why).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    fn arm(&mut self, epoch: u32, until: u64) -> Result<(), String> {
        let until = match self.state {
            State::Idle => until,
            State::Armed { epoch: known, until: fence } if known == epoch => fence.max(until),
            State::Armed { epoch: known, .. } if self.any_left() => {
                return Err(format!("armed for epoch {known}, and its processes are not gone"));
            }
            State::Armed { .. } => until,
        };
        if until <= now_us() {
            return Err("that deadline has passed".to_owned());
        }
        self.state = State::Armed { epoch, until };
        self.set_timer();
        Ok(())
    }

    fn kill_on_demand(&mut self) -> Result<(), String> {
        self.kill()?;
        self.nothing_left();
        Ok(())
    }

    fn start(&mut self, start: &Start) -> Result<(), String> {
        if self.any_left() {
            return Err("processes of the instance are left".to_owned());
        }
        match (start.primary, self.state) {
            // Nothing is left that could write, and what starts now can't: there is nothing to kill any more.
            (None, _) => self.nothing_left(),
            (Some(epoch), State::Armed { epoch: armed, until }) if epoch == armed && now_us() < until => {}
            (Some(epoch), _) => return Err(format!("not armed for epoch {epoch}")),
        }
        self.group = cgroup::prepare(&self.data_dir).map(Arc::new);
        let group = self.group.as_ref().ok().cloned();
        self.instance = Instance::new(&self.data_dir, group, self.proc.clone()).below_me();
        (self.signal, self.blind) = match watch(&self.data_dir) {
            Ok(signal) => (Some(signal), None),
            Err(why) => (None, Some(format!("a promotion without an order is noticed late: inotify: {why}"))),
        };
        match self.spawn(start) {
            Ok(postmaster) => self.postmaster = Some(postmaster),
            Err(e) => {
                // Whatever it has started by then. Who is left is told, and keeps the next one from being started.
                self.kill().unwrap_or_default();
                return Err(format!("start {:?}: {e}", start.argv.first()));
            }
        }
        Ok(())
    }

    fn spawn(&self, start: &Start) -> io::Result<OwnedFd> {
        let (program, arguments) = start.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let log = OpenOptions::new().create(true).append(true).open(&start.log)?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(start.env.iter().cloned()).current_dir(&self.data_dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.envs(spare_the_backends(&start.env));
        let (own, group) = (rustix::process::getpid(), self.group.as_ref().ok().cloned());
        // SAFETY: between fork and exec only system calls are made: nothing allocates, no lock is taken.
        unsafe {
            command.pre_exec(move || {
                rustix::process::setsid()?;
                die_with(own)?;
                group.as_ref().map_or(Ok(()), |group| group.enter())
            });
        }
        // The loop reaps it with all the others, and not before this.
        let child = command.spawn()?;
        let handle = Pid::from_raw(child.id().cast_signed()).ok_or(io::ErrorKind::InvalidData.into());
        held(child, handle.and_then(|pid| Ok(pidfd_open(pid, PidfdFlags::empty())?)))
    }
}

/// The kernel kills the process that calls when its parent dies, which must be this one.
fn die_with(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died just before.
    if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(Errno::PIPE.into()) }
}

/// Its handle. What there is none for must not run: nothing would tell of its end.
fn held(mut child: Child, handle: io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    if handle.is_err() {
        child.kill()?;
        child.wait()?;
    }
    handle
}

/// PostgreSQL's backends set this in their own process. Without it they would inherit the guard's protection from being
/// killed when memory is short, which is meant for the postmaster alone.
fn spare_the_backends(env: &[(String, String)]) -> impl Iterator<Item = (&'static str, &'static str)> {
    let wanted = [("PG_OOM_ADJUST_FILE", "/proc/self/oom_score_adj"), ("PG_OOM_ADJUST_VALUE", "0")];
    wanted.into_iter().filter(|(name, _)| env.iter().all(|(known, _)| known != name))
}

/// Whether the process of this handle hasn't ended, as far as is known.
fn is_alive(process: &OwnedFd) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&at_once)), Ok(1))
}

/// Watches for files leaving the data directory.
fn watch(data_dir: &Path) -> rustix::io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&fd, data_dir, inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVED_FROM)?;
    Ok(fd)
}

/// Collects children that have ended, the instance's orphans among them. Says whether one is left.
fn reap() -> bool {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return true,
            Err(e) => return e != Errno::CHILD,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{die_with, held, spare_the_backends};
    use rustix::process::{Pid, getpid, test_kill_process};
    use std::io;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    fn below(parent: Pid) -> io::Result<()> {
        let mut command = Command::new("true");
        // SAFETY: two system calls.
        unsafe { command.pre_exec(move || die_with(parent)) };
        command.spawn()?.wait().map(drop)
    }

    #[test]
    fn whoever_has_lost_its_guard_between_fork_and_exec_runs_nothing() {
        below(getpid()).unwrap();
        assert_eq!(below(Pid::INIT).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_postmaster_that_no_handle_can_be_had_for_is_killed_at_once() {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let short = io::Error::from_raw_os_error(libc::EMFILE);
        assert_eq!(held(child, Err(short)).unwrap_err().raw_os_error(), Some(libc::EMFILE));
        test_kill_process(pid).unwrap_err();
    }

    #[test]
    fn what_the_user_has_set_for_the_backends_is_kept() {
        let set = |name: &str| (name.to_owned(), "5".to_owned());
        let added =
            |env: &[(String, String)]| spare_the_backends(env).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(added(&[set("PATH")]), ["PG_OOM_ADJUST_FILE", "PG_OOM_ADJUST_VALUE"]);
        assert_eq!(added(&[set("PG_OOM_ADJUST_VALUE")]), ["PG_OOM_ADJUST_FILE"]);
        assert_eq!(added(&[set("PG_OOM_ADJUST_VALUE"), set("PG_OOM_ADJUST_FILE")]), Vec::<&str>::new());
    }
}
