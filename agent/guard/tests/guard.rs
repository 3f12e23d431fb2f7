//! The guard as a real process, over a make-believe PostgreSQL: a copy of `sleep` or a shell called `postgres`.

use primacy_guard::kill::Instance;
use primacy_guard::now_us;
use primacy_guard::server::{Options, SOCKET};
use primacy_guard::wire::{Ask, News, Reply, Request, Say, Start, Status, Why};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const AS_GUARD: &str = "PRIMACY_TEST_GUARD";

/// Not a test: the guard's process, when this file is started again as one.
#[test]
fn as_guard() {
    let Some(dir) = std::env::var_os(AS_GUARD) else { return };
    let dir = PathBuf::from(dir);
    let options = Options { run_dir: dir.join("run"), data_dir: dir.join("data") };
    if let Err(why) = primacy_guard::server::run(&options) {
        eprintln!("{why}");
        std::process::exit(7);
    }
}

/// A guard with its folders; both are gone with it.
struct Place {
    dir: PathBuf,
    guard: Child,
}

impl Place {
    fn new() -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("primacy-guard-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = std::env::temp_dir().join(name);
        for part in ["run", "data", "bin"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        fs::copy(fs::canonicalize("/bin/sh").unwrap(), dir.join("bin/postgres")).unwrap();
        fs::write(dir.join("data/standby.signal"), "").unwrap();
        let guard = spawn(&dir);
        Place { dir, guard }
    }

    fn agent(&self) -> Agent {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            if let Ok(stream) = UnixStream::connect(self.dir.join("run").join(SOCKET)) {
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                return Agent { reader: BufReader::new(stream.try_clone().unwrap()), stream, next: 0 };
            }
            assert!(Instant::now() < until, "the guard doesn't come up");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A postmaster with a child; the script runs in the data directory.
    fn start(&self, script: &str, primary: Option<u32>) -> Request {
        let program = self.dir.join("bin/postgres").to_str().unwrap().to_owned();
        Request::Start(Start {
            argv: vec![program, "-c".into(), script.into()],
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            log: self.dir.join("log"),
            primary,
        })
    }

    fn end_guard(&mut self) {
        self.guard.kill().unwrap();
        self.guard.wait().unwrap();
    }

    fn instance(&self) -> Instance {
        Instance::new(&self.dir.join("data"), None)
    }

    /// The process number that a script has written to this file.
    fn told(&self, file: &str) -> i32 {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            if let Ok(text) = fs::read_to_string(self.dir.join("data").join(file)) {
                return text.trim().parse().unwrap();
            }
            assert!(Instant::now() < until, "nobody writes {file}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_for(&self, count: usize) {
        let until = Instant::now() + Duration::from_secs(5);
        while self.instance().processes().unwrap().len() != count {
            assert!(Instant::now() < until, "{:?}, not {count} processes", self.instance().processes());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn spawn(dir: &Path) -> Child {
    command(&std::env::current_exe().unwrap(), dir).stderr(Stdio::null()).spawn().unwrap()
}

fn command(program: &Path, dir: &Path) -> Command {
    let mut guard = Command::new(program);
    guard.args(["--exact", "as_guard", "--nocapture", "--test-threads=1"]).env(AS_GUARD, dir);
    guard.stdout(Stdio::null());
    guard
}

impl Drop for Place {
    fn drop(&mut self) {
        self.end_guard();
        assert!(self.instance().kill(Duration::from_secs(5)));
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

struct Agent {
    reader: BufReader<UnixStream>,
    stream: UnixStream,
    next: u64,
}

impl Agent {
    fn ask(&mut self, request: Request) -> Result<Status, String> {
        self.next += 1;
        let mut line = serde_json::to_string(&Ask { id: self.next, request }).unwrap();
        line.push('\n');
        self.stream.write_all(line.as_bytes()).map_err(|e| e.to_string())?;
        loop {
            if let Say::Answer(id, reply) = self.hear()? {
                assert_eq!(id, self.next);
                return match reply {
                    Reply::Status(status) => Ok(status),
                    Reply::Refused(why) => Err(why),
                };
            }
        }
    }

    fn hear(&mut self) -> Result<Say, String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => Err("closed".into()),
            Ok(_) => serde_json::from_str(&line).map_err(|e| e.to_string()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn news(&mut self) -> News {
        match self.hear().unwrap() {
            Say::News(news) => news,
            other @ Say::Answer(..) => panic!("{other:?}"),
        }
    }
}

fn soon(ms: u64) -> u64 {
    now_us() + ms * 1_000
}

#[test]
fn at_the_fence_everything_dies_though_the_agent_is_gone() {
    let place = Place::new();
    let mut agent = place.agent();
    agent.ask(Request::Arm { epoch: 3, until: soon(400) }).unwrap();
    agent.ask(place.start("sleep 61 & wait", Some(3))).unwrap();
    drop(agent);
    place.wait_for(2);
    place.wait_for(0);
    assert_eq!(place.agent().ask(Request::Status).unwrap().armed, None);
}

/// Lets the guard open no descriptor of this number and above.
fn limit_descriptors(place: &Place, below: u64) {
    let pid = Pid::from_raw(place.guard.id().cast_signed());
    let limit = Rlimit { current: Some(below), maximum: Some(1_024) };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

/// The lowest number that is free in the guard; all that is open lies below.
fn first_free_descriptor(place: &Place) -> u64 {
    let open = fs::read_dir(format!("/proc/{}/fd", place.guard.id())).unwrap();
    let numbers: Vec<u64> =
        open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    (0..).find(|number| !numbers.contains(number)).unwrap()
}

/// Whether this process runs, and isn't a zombie.
fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

const WITH_A_CHILD: &str = "sh -c 'echo $$ > child; while :; do sleep 1; done' & echo $$ > top; wait";

#[test]
fn a_guard_without_descriptors_kills_at_the_fence_with_those_in_reserve() {
    let place = Place::new();
    let mut agent = place.agent();
    agent.ask(Request::Arm { epoch: 1, until: soon(600) }).unwrap();
    agent.ask(place.start(WITH_A_CHILD, Some(1))).unwrap();
    let (top, child) = (place.told("top"), place.told("child"));
    limit_descriptors(&place, first_free_descriptor(&place));
    assert_eq!(agent.news(), News::Killed(Why::Fence));
    assert!(!lives(top) && !lives(child));
    assert_eq!(agent.ask(Request::Status).unwrap().armed, None);
}

#[test]
fn what_can_not_be_seen_is_not_taken_for_gone() {
    let place = Place::new();
    let mut agent = place.agent();
    agent.ask(Request::Arm { epoch: 1, until: soon(600) }).unwrap();
    agent.ask(place.start(WITH_A_CHILD, Some(1))).unwrap();
    let (top, child) = (place.told("top"), place.told("child"));
    // So few that those in reserve are no use, and it can just be waited for all that it waits for.
    limit_descriptors(&place, 5);
    let until = Instant::now() + Duration::from_secs(5);
    while lives(top) {
        assert!(Instant::now() < until, "killing the postmaster takes no descriptor");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    agent.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(agent.hear().is_err(), "nothing is known, so nothing is said");
    agent.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    limit_descriptors(&place, 1_024);
    assert_eq!(agent.news(), News::Killed(Why::Fence));
    assert!(!lives(child));
}

#[test]
fn stopped_processes_and_orphans_die_too() {
    let place = Place::new();
    let mut agent = place.agent();
    agent.ask(Request::Arm { epoch: 1, until: soon(1_500) }).unwrap();
    let program = place.dir.join("bin/postgres");
    let inner = format!("{0} -c 'sleep 62; :' & {0} -c 'sleep 62; :' & wait", program.display());
    agent.ask(place.start(&inner, Some(1))).unwrap();
    place.wait_for(5);
    for pid in place.instance().processes().unwrap() {
        kill_process(Pid::from_raw(pid).unwrap(), Signal::STOP).unwrap();
    }
    assert_eq!(agent.news(), News::Killed(Why::Fence));
    assert_eq!(place.instance().processes().unwrap(), Vec::<i32>::new());
}

#[test]
fn what_a_dead_postmaster_leaves_behind_is_killed_and_told() {
    let place = Place::new();
    let mut agent = place.agent();
    agent.ask(Request::Arm { epoch: 1, until: soon(60_000) }).unwrap();
    let program = place.dir.join("bin/postgres");
    agent.ask(place.start(&format!("{} -c 'sleep 63; :' & exit 0", program.display()), Some(1))).unwrap();
    assert_eq!(agent.news(), News::Exited);
    let status = agent.ask(Request::Look).unwrap();
    assert_eq!(
        (status.left, status.armed.map(|(epoch, _)| epoch)),
        (Some(false), Some(1)),
        "armed for a restart in place"
    );
}

/// What a session has started with `COPY … TO PROGRAM` works wherever it likes, and has no parent when the session
/// dies.
#[test]
fn an_orphan_of_a_session_is_seen_and_killed() {
    let place = Place::new();
    let mut agent = place.agent();
    let mut stranger = Command::new("sleep").arg("69").current_dir(place.dir.join("data")).spawn().unwrap();
    let orphan = "(cd /; exec sleep 69) & echo $! > orphan";
    agent.ask(place.start(&format!("({orphan}); mv orphan told; sleep 69; :"), None)).unwrap();
    let orphan = place.told("told");
    agent.ask(Request::Kill).unwrap();
    assert!(!Path::new(&format!("/proc/{orphan}")).exists(), "a killed one is reaped, too");
    assert_eq!(stranger.try_wait().unwrap(), None);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn the_fence_only_moves_forward_and_only_for_its_epoch() {
    let place = Place::new();
    let mut agent = place.agent();
    let (near, far) = (soon(30_000), soon(60_000));
    agent.ask(Request::Arm { epoch: 2, until: far }).unwrap();
    assert_eq!(agent.ask(Request::Arm { epoch: 2, until: near }).unwrap().armed, Some((2, far)));
    agent.ask(place.start("sleep 64", Some(2))).unwrap();
    assert!(agent.ask(Request::Arm { epoch: 3, until: far + 1 }).unwrap_err().contains("not gone"));
    assert_eq!(agent.ask(Request::Status).unwrap().armed, Some((2, far)));
    assert!(agent.ask(Request::Arm { epoch: 2, until: 5 }).is_ok(), "not moved back, so not refused either");
    agent.ask(Request::Kill).unwrap();
    assert!(agent.ask(Request::Arm { epoch: 4, until: 5 }).unwrap_err().contains("passed"));
}

/// On a host with thousands of processes a search takes as long as an agent waits for the fence to be moved.
#[test]
fn the_fence_is_moved_without_a_search_of_all_processes() {
    let place = Place::new();
    let mut agent = place.agent();
    for wanted in [Request::Arm { epoch: 1, until: soon(60_000) }, Request::Status] {
        assert_eq!(agent.ask(wanted).unwrap().left, None);
    }
    let (orphan, end) = ("(cd /; exec sleep 70) & echo $! > orphan", "mv orphan told; sleep 70; :");
    agent.ask(place.start(&format!("({orphan}); {end}"), Some(1))).unwrap();
    place.told("told");
    assert_eq!(agent.ask(Request::Arm { epoch: 1, until: soon(60_000) }).unwrap().left, None);
    assert_eq!(agent.ask(Request::Look).unwrap().left, Some(true));
    agent.ask(Request::Kill).unwrap();
    assert_eq!(agent.ask(Request::Look).unwrap().left, Some(false));
}

#[test]
fn nothing_is_started_writable_without_the_fence_of_its_epoch() {
    let place = Place::new();
    let mut agent = place.agent();
    assert!(agent.ask(place.start("sleep 65", Some(1))).unwrap_err().contains("not armed"));
    agent.ask(Request::Arm { epoch: 1, until: soon(60_000) }).unwrap();
    assert!(agent.ask(place.start("sleep 65", Some(2))).unwrap_err().contains("not armed"));
    agent.ask(place.start("sleep 65", None)).unwrap();
    assert_eq!(agent.ask(Request::Status).unwrap().armed, None, "what can't write needs no fence");
    assert!(agent.ask(place.start("sleep 65", None)).unwrap_err().contains("left"));
}

#[test]
fn a_promotion_without_an_order_is_killed() {
    let place = Place::new();
    let mut agent = place.agent();
    agent.ask(place.start("sleep 66", None)).unwrap();
    place.wait_for(2);
    fs::remove_file(place.dir.join("data/standby.signal")).unwrap();
    assert_eq!(agent.news(), News::Killed(Why::Promotion));
    assert!(!place.instance().any_left());
}

/// Where the data directory can't be listed, nothing tells of changes in it.
#[test]
fn a_promotion_that_no_watch_tells_of_is_killed_too_and_the_guard_is_weak() {
    let mut place = Place::new();
    place.agent().ask(Request::Status).unwrap();
    place.end_guard();
    let [run, data, program] = ["run", "data", "bin/guard"].map(|part| place.dir.join(part));
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::remove_dir_all(&run).unwrap();
    fs::create_dir(&run).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o300)).unwrap();
    let mut guard = command(&program, &place.dir);
    if rustix::process::geteuid().is_root() {
        // Root may list everything.
        for owned in [&place.dir, &run, &data] {
            chown(owned, Some(65534), Some(65534)).unwrap();
        }
        guard.uid(65534).gid(65534);
    }
    place.guard = guard.stderr(Stdio::null()).spawn().unwrap();
    let mut agent = place.agent();
    let weak = agent.ask(place.start("sleep 66", None)).unwrap().weak.unwrap();
    assert!(weak.contains("inotify"), "{weak}");
    fs::remove_file(data.join("standby.signal")).unwrap();
    assert_eq!(agent.news(), News::Killed(Why::Promotion));
    assert!(!place.instance().any_left());
}

#[test]
fn a_promotion_under_the_fence_is_let_be() {
    let place = Place::new();
    let mut agent = place.agent();
    agent.ask(place.start("sleep 67", None)).unwrap();
    agent.ask(Request::Arm { epoch: 5, until: soon(60_000) }).unwrap();
    fs::remove_file(place.dir.join("data/standby.signal")).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(agent.ask(Request::Look).unwrap().left, Some(true));
}

#[test]
fn a_new_agent_replaces_the_old_one() {
    let place = Place::new();
    let mut old = place.agent();
    old.ask(Request::Arm { epoch: 1, until: soon(30_000) }).unwrap();
    let mut new = place.agent();
    let before = new.ask(Request::Status).unwrap().armed;
    assert!(old.ask(Request::Arm { epoch: 1, until: soon(60_000) }).is_err());
    assert_eq!(new.ask(Request::Status).unwrap().armed, before);
}

#[test]
fn a_second_guard_is_refused() {
    let place = Place::new();
    place.agent().ask(Request::Status).unwrap();
    assert_eq!(spawn(&place.dir).wait().unwrap().code(), Some(7));
    place.agent().ask(Request::Status).unwrap();
}

/// Whoever leads a process group can't get a session of its own, which the guard says.
#[test]
fn a_guard_that_nobody_listens_to_goes_on() {
    let mut place = Place::new();
    place.agent().ask(Request::Status).unwrap();
    place.end_guard();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let program = std::env::current_exe().unwrap();
    place.guard = command(&program, &place.dir).process_group(0).stderr(writer).spawn().unwrap();
    assert_eq!(place.agent().ask(Request::Status).unwrap().pid, place.guard.id().cast_signed());
}

/// As at the shutdown of a host, where the agent needs it for an orderly stop.
#[test]
fn a_guard_that_is_asked_to_end_watches_to_the_end_and_then_goes() {
    let mut place = Place::new();
    let mut agent = place.agent();
    agent.ask(Request::Arm { epoch: 1, until: soon(60_000) }).unwrap();
    agent.ask(place.start("sleep 63 & wait", Some(1))).unwrap();
    place.wait_for(2);
    kill_process(Pid::from_child(&place.guard), Signal::TERM).unwrap();
    assert!(
        agent.ask(Request::Status).unwrap().armed.is_some(),
        "it is there, and so is what it watches over"
    );
    place.wait_for(2);
    agent.ask(Request::Kill).unwrap();
    drop(agent);
    assert!(place.guard.wait().unwrap().success(), "nothing is left to do");
}

#[test]
fn the_postmaster_dies_with_the_guard_and_the_agent_can_kill_the_rest() {
    let mut place = Place::new();
    let mut agent = place.agent();
    agent.ask(Request::Arm { epoch: 1, until: soon(60_000) }).unwrap();
    let program = place.dir.join("bin/postgres");
    agent.ask(place.start(&format!("{} -c 'sleep 68; :' & wait", program.display()), Some(1))).unwrap();
    place.wait_for(3);
    place.end_guard();
    assert_eq!(agent.hear(), Err("closed".into()));
    assert!(place.instance().kill(Duration::from_secs(5)));
    assert!(!place.instance().any_left());
    place.guard = spawn(&place.dir);
    place.agent().ask(Request::Status).unwrap();
}

#[test]
fn rubbish_ends_the_connection_and_nothing_else() {
    let place = Place::new();
    let mut agent = place.agent();
    agent.stream.write_all(b"{\"id\": \"no\"}\n").unwrap();
    assert_eq!(agent.hear(), Err("closed".into()));
    place.agent().ask(Request::Status).unwrap();
}
