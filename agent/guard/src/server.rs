//! The guard itself: one thread, one loop.

use crate::kill::{self, Instance};
use crate::wire::{Ask, News, Reply, Request, Say, Start, Status, Why};
use crate::{cgroup, now_us, tell};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock, inotify};
use rustix::mm::MlockAllFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, getppid, kill_process, pidfd_open, pidfd_send_signal, wait,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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
/// The pause before the next turn if nothing can be waited for.
const NAP: Duration = Duration::from_millis(10);
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
    let own = getpid();
    prefer("to be given the instance's orphans", rustix::process::set_child_subreaper(Some(own)));
    let locked = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    prefer("its memory kept from being swapped", rustix::mm::mlockall(locked));
    prefer("to be killed last when memory is short", std::fs::write("/proc/self/oom_score_adj", "-900"));
    outlive_a_shutdown();
    let lock = lock(&options.run_dir)?;
    let mut guard = Guard::new(options, lock)?;
    kill::keep_reserve();
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
    instance: Instance,
    group: Result<PathBuf, String>,
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
        let socket = options.run_dir.join(SOCKET);
        // The lock is ours, so whoever made this socket is gone.
        drop(std::fs::remove_file(&socket));
        let listener = UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        let group = cgroup::prepare(&options.data_dir);
        let instance = Instance::new(&options.data_dir, group.as_ref().ok().cloned()).below_me();
        let data_dir = options.data_dir.clone();
        Ok(Guard {
            data_dir,
            _lock: lock,
            listener,
            agent: None,
            state: State::Idle,
            instance,
            group,
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

    /// Looks around once a second even if nothing happens: orphans are reaped then.
    fn wait(&self) -> Ready {
        let mut fds =
            vec![PollFd::new(&self.listener, PollFlags::IN), PollFd::new(&self.timer, PollFlags::IN)];
        let agent = self.agent.as_ref().map(|agent| add(&mut fds, PollFd::new(&agent.stream, PollFlags::IN)));
        fds.extend(self.signal.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let postmaster = self.postmaster.as_ref().map(|fd| add(&mut fds, PollFd::new(fd, PollFlags::IN)));
        match poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // For want of memory, say. The fence is looked at all the same.
            Err(_) => {
                std::thread::sleep(NAP);
                return Ready { listener: false, agent: false, postmaster: !self.lives() };
            }
        }
        let ready = |at: Option<usize>| at.is_some_and(|at| !fds[at].revents().is_empty());
        Ready { listener: ready(Some(0)), agent: ready(agent), postmaster: ready(postmaster) }
    }

    fn fence_fell(&self) -> bool {
        matches!(self.state, State::Armed { until, .. } if now_us() >= until)
    }

    /// Whether the postmaster that was started runs, as far as is known.
    fn lives(&self) -> bool {
        self.postmaster.as_ref().is_some_and(is_alive)
    }

    /// Kills all processes of the instance. Says whether none is left. The postmaster comes first, as that takes no new
    /// descriptor; its children end when they notice.
    fn kill(&self) -> bool {
        if let Some(postmaster) = &self.postmaster {
            pidfd_send_signal(postmaster, Signal::KILL).unwrap_or_default();
        }
        self.instance.kill(KILL_ROUND) && !self.lives()
    }

    /// Kills everything, and stays armed until nothing is left.
    fn kill_by_itself(&mut self, why: Why) {
        if !self.kill() {
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
        if self.kill() {
            (self.postmaster, self.signal) = (None, None);
            reap();
            self.say(&Say::News(News::Exited));
        }
    }

    /// No process of the instance is left.
    fn nothing_left(&mut self) {
        reap();
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
        let Ok((stream, _)) = self.listener.accept() else { return };
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
        self.lives() || self.instance.any_left()
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
        if !self.kill() {
            return Err("some processes are not gone yet".to_owned());
        }
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
        self.instance = Instance::new(&self.data_dir, self.group.as_ref().ok().cloned()).below_me();
        (self.signal, self.blind) = match watch(&self.data_dir) {
            Ok(signal) => (Some(signal), None),
            Err(why) => (None, Some(format!("a promotion without an order is noticed late: inotify: {why}"))),
        };
        let spawned = self.spawn(start).map_err(|e| format!("start {:?}: {e}", start.argv.first()));
        self.postmaster = Some(spawned?);
        Ok(())
    }

    fn spawn(&self, start: &Start) -> io::Result<OwnedFd> {
        let (program, arguments) = start.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let log = OpenOptions::new().create(true).append(true).open(&start.log)?;
        let members = self
            .group
            .as_ref()
            .ok()
            .and_then(|group| OpenOptions::new().write(true).open(group.join("cgroup.procs")).ok());
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(start.env.iter().cloned()).current_dir(&self.data_dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let guard = getpid();
        // SAFETY: between fork and exec only system calls are made: nothing allocates, no lock is taken.
        unsafe {
            command.pre_exec(move || {
                rustix::process::setsid()?;
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                // The guard may have ended before that.
                if getppid() != Some(guard) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                if let Some(members) = &members {
                    rustix::io::write(members, b"0")?;
                }
                Ok(())
            });
        }
        // The loop reaps it with all the others, and not before this.
        let number = command.spawn()?.id().cast_signed();
        let pid = Pid::from_raw(number).ok_or(io::ErrorKind::InvalidData)?;
        let handle = pidfd_open(pid, PidfdFlags::empty());
        if handle.is_err() {
            // Nobody would watch it. Nobody has reaped it either, so the number is still its own.
            kill_process(pid, Signal::KILL).unwrap_or_default();
        }
        Ok(handle?)
    }
}

/// Whether the process of this handle hasn't ended, as far as is known.
fn is_alive(process: &OwnedFd) -> bool {
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&at_once)), Ok(1..))
}

/// Watches for files leaving the data directory.
fn watch(data_dir: &Path) -> rustix::io::Result<OwnedFd> {
    let fd = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&fd, data_dir, inotify::WatchFlags::DELETE | inotify::WatchFlags::MOVED_FROM)?;
    Ok(fd)
}

/// Collects children that have ended, the instance's orphans among them.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}
