//! PostgreSQL's programs as children that never outlive their order, with all that they start.

use crate::progress::{Work, pulse};
use crate::{Error, Instant, Settings};
use rustix::process::{Pid, Signal, getpid, getppid, kill_process_group, set_parent_process_death_signal};
use std::ffi::OsStr;
use std::io;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout_at};

/// So many of a failing program's last characters are told.
const WORDS: usize = 400;
/// Of a line that is heard as it is printed, so many bytes. A commit's names each object that it changed.
const LINE_MAX: usize = 64 << 10;
/// Of what such a program says beside that, the last bytes.
const SAID_MAX: usize = 64 << 10;
/// Between two looks at whether a program still moves.
const LOOK: Duration = Duration::from_millis(200);

impl Settings {
    /// A program of PostgreSQL, with English messages and nothing of the agent's environment.
    pub(crate) fn program(&self, name: &'static str) -> Program {
        let mut command = Command::new(self.bin_dir.join(name));
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").env("TZ", "UTC");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        die_with_this_thread(&mut command);
        Program { name, command }
    }

    /// A command of the user's, as PostgreSQL would run it: by the shell, in the data directory, with what is around it.
    pub(crate) fn command(&self, name: &'static str, line: &str) -> Program {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).current_dir(&self.data_dir).stdin(Stdio::null());
        command.process_group(0).kill_on_drop(true);
        die_with_this_thread(&mut command);
        Program { name, command }
    }
}

/// A program about to be run.
pub(crate) struct Program {
    name: &'static str,
    command: Command,
}

impl Program {
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Program {
        self.command.arg(arg);
        self
    }

    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Program {
        self.command.args(args);
        self
    }

    /// Runs it, and returns what it printed if it succeeded.
    pub async fn run(self, by: Instant) -> Result<String, Error> {
        let finished = self.finish(by).await?;
        if finished.succeeded { Ok(finished.out) } else { Err(finished.into_error()) }
    }

    /// Runs it to its end without listening, and returns its exit code; none if a signal ended it.
    pub async fn code(mut self, by: Instant) -> Result<Option<i32>, Error> {
        self.command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = self.command.spawn().map_err(Error::io(format!("run {}", self.name)))?;
        let mut running = Running(child);
        let ended = timeout_at(by, running.0.wait()).await.map_err(|_| Error::TimedOut(self.name))?;
        Ok(ended.map_err(Error::io(format!("wait for {}", self.name)))?.code())
    }

    /// Runs it to its end, whether it succeeds or not.
    pub async fn finish(mut self, by: Instant) -> Result<Finished, Error> {
        let child = self.command.spawn().map_err(Error::io(format!("run {}", self.name)))?;
        let mut running = Running(child);
        let output = timeout_at(by, running.output()).await.map_err(|_| Error::TimedOut(self.name))?;
        let (succeeded, out, err) = output.map_err(Error::io(format!("wait for {}", self.name)))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Finished { name: self.name, succeeded, out: text(out), err: text(err) })
    }

    /// The same, and each line that it prints is heard when it comes, as far as it is not too long; none is kept. What
    /// it prints may be more than there is memory.
    pub async fn hear(mut self, by: Instant, hear: impl FnMut(&str)) -> Result<Finished, Error> {
        let child = self.command.spawn().map_err(Error::io(format!("run {}", self.name)))?;
        let mut running = Running(child);
        let heard = timeout_at(by, running.heard(hear)).await.map_err(|_| Error::TimedOut(self.name))?;
        let (succeeded, err) = heard.map_err(Error::io(format!("wait for {}", self.name)))?;
        Ok(Finished { name: self.name, succeeded, out: String::new(), err })
    }

    /// The same, for as long as it moves. `hear` gets each line that it says, and tells which are but about progress.
    pub async fn watch(
        mut self,
        work: &mut Work,
        by: Instant,
        hear: impl FnMut(&str, &mut Work) -> bool,
    ) -> Result<Finished, Error> {
        self.command.stdout(Stdio::null());
        let child = self.command.spawn().map_err(Error::io(format!("run {}", self.name)))?;
        let mut running = Running(child);
        let watched = timeout_at(by, running.watched(self.name, work, hear)).await;
        let (succeeded, err) = watched.map_err(|_| Error::TimedOut(self.name))??;
        Ok(Finished { name: self.name, succeeded, out: String::new(), err })
    }
}

/// A program that has ended.
pub(crate) struct Finished {
    name: &'static str,
    pub succeeded: bool,
    pub out: String,
    pub err: String,
}

impl Finished {
    /// Fails if it did.
    pub fn success(self) -> Result<(), Error> {
        if self.succeeded { Ok(()) } else { Err(self.into_error()) }
    }

    /// That it failed, with its last words.
    pub fn into_error(self) -> Error {
        Error::Program { program: self.name, words: tail(&self.err) }
    }
}

/// A program, and what it has started.
struct Running(Child);

impl Running {
    /// Whether it succeeded, and what it printed. The end of the program itself is asked for last: until then its
    /// number, which is also that of its group, belongs to nobody else.
    async fn output(&mut self) -> io::Result<(bool, Vec<u8>, Vec<u8>)> {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let (out, err) = tokio::try_join!(all(stdout), all(stderr))?;
        Ok((self.0.wait().await?.success(), out, err))
    }

    /// Whether it succeeded, and what it said last beside its lines.
    async fn heard(&mut self, hear: impl FnMut(&str)) -> io::Result<(bool, String)> {
        let (stdout, stderr) = (self.0.stdout.take(), self.0.stderr.take());
        let ((), said) = tokio::try_join!(lines(stdout, hear), end(stderr))?;
        Ok((self.0.wait().await?.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// Whether it succeeded, and what it said that is not about progress.
    async fn watched(
        &mut self,
        name: &'static str,
        work: &mut Work,
        mut hear: impl FnMut(&str, &mut Work) -> bool,
    ) -> Result<(bool, String), Error> {
        let failed = || Error::io(format!("wait for {name}"));
        let mut stderr = self.0.stderr.take();
        let (mut line, mut said, mut piece) = (Vec::new(), String::new(), [0; 4_096]);
        while let Some(pipe) = &mut stderr {
            let read = tokio::select! {
                biased;
                read = pipe.read(&mut piece) => Some(read.map_err(failed())?),
                () = sleep(LOOK) => None,
            };
            if read == Some(0) {
                stderr = None;
            }
            let end = stderr.is_none().then_some(&b'\n');
            for byte in piece[..read.unwrap_or(0)].iter().chain(end) {
                if !matches!(byte, b'\r' | b'\n') {
                    line.push(*byte);
                    continue;
                }
                let text = String::from_utf8_lossy(&line);
                if !hear(&text, work) && !text.is_empty() {
                    said.extend([&text, "\n"]);
                }
                line.clear();
            }
            work.feel(self.0.id().and_then(pulse));
            work.check()?;
        }
        Ok((self.0.wait().await.map_err(failed())?.success(), said))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has no number any more once its end was asked for.
        let group = self.0.id().and_then(|number| Pid::from_raw(number.cast_signed()));
        if let Some(group) = group {
            // Fails only if nothing is left of it.
            kill_process_group(group, Signal::KILL).unwrap_or_default();
        }
    }
}

async fn all(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// Hears each line when it comes.
async fn lines(pipe: Option<impl AsyncRead + Unpin>, mut hear: impl FnMut(&str)) -> io::Result<()> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    let (mut line, mut piece) = (Vec::new(), vec![0; LINE_MAX]);
    loop {
        let read = pipe.read(&mut piece).await?;
        for byte in &piece[..read] {
            match byte {
                b'\n' => {
                    hear(&String::from_utf8_lossy(&line));
                    line.clear();
                }
                byte if line.len() < LINE_MAX => line.push(*byte),
                _ => {}
            }
        }
        if read == 0 {
            if !line.is_empty() {
                hear(&String::from_utf8_lossy(&line));
            }
            return Ok(());
        }
    }
}

/// The end of it.
async fn end(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let (mut bytes, mut piece) = (Vec::new(), vec![0; SAID_MAX]);
    if let Some(mut pipe) = pipe {
        loop {
            let read = pipe.read(&mut piece).await?;
            if read == 0 {
                break;
            }
            bytes.extend_from_slice(&piece[..read]);
            bytes.drain(..bytes.len().saturating_sub(SAID_MAX));
        }
    }
    Ok(bytes)
}

/// The kernel kills the program when the thread that started it ends. Orders are carried out on the agent's first
/// thread, so that is when the agent ends, in whatever way. What the program has started itself goes on, and is found
/// before another copy is made.
fn die_with_this_thread(command: &mut Command) {
    let parent = getpid();
    let arrange = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died just before.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: between fork and exec it makes two system calls and allocates nothing.
    unsafe { command.pre_exec(arrange) };
}

fn tail(text: &str) -> String {
    let text = text.trim();
    let skip = text.chars().count().saturating_sub(WORDS);
    text.chars().skip(skip).collect::<String>().replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    /// A shell, and the file into which `script` is to write a process number.
    fn shell(test: &str, script: &str) -> (Program, PathBuf) {
        let file = std::env::temp_dir().join(format!("primacy-tools-{}-{test}", std::process::id()));
        let settings = Settings { bin_dir: "/bin".into(), ..Settings::default() };
        (settings.program("sh").arg("-c").arg(script).arg("sh").arg(&file), file)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    /// The number in the file, once it is there.
    async fn number_in(file: &Path) -> String {
        loop {
            match fs::read_to_string(file) {
                Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// Whether it ends within a while. Zombies have ended.
    async fn ends(number: &str) -> bool {
        let by = soon();
        while Instant::now() < by {
            let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_program_has_started_ends_with_its_order() {
        let (program, file) = shell("group", "sleep 600 & echo $! > $1; wait");
        tokio::select! {
            biased;
            ended = program.run(soon()) => panic!("{ended:?}"),
            _ = number_in(&file) => {}
        }
        let number = number_in(&file).await;
        fs::remove_file(&file).unwrap();
        assert!(ends(&number).await, "process {number} goes on");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_program_ends_with_the_thread_that_started_it() {
        let (program, file) = shell("death", "echo $$ > $1; exec sleep 600");
        let watched = file.clone();
        let agent = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut running = Box::pin(program.run(soon()));
                tokio::select! {
                    biased;
                    ended = &mut running => panic!("{ended:?}"),
                    _ = number_in(&watched) => {}
                }
                // Nobody is left to end it.
                std::mem::forget(running);
            });
        });
        agent.join().unwrap();
        let number = number_in(&file).await;
        fs::remove_file(&file).unwrap();
        assert!(ends(&number).await, "process {number} goes on");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_it_prints_is_told_if_it_fails() {
        let (program, _) = shell("fails", "echo out; echo why >&2; exit 3");
        assert_eq!(program.run(soon()).await.unwrap_err().to_string(), "sh failed: why");
        let (program, _) = shell("fine", "echo out");
        assert_eq!(program.run(soon()).await.unwrap(), "out\n");
    }

    /// The most memory that this process ever had, in bytes.
    fn most_memory() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_program_prints_need_not_fit_into_memory() {
        let script = "yes 0123456789 | head -n 30000000; echo first >&2; yes | head -c 1000000 >&2; \
                      head -c 1000000 /dev/zero | tr '\\0' x; echo; printf last; echo why >&2; exit 1";
        let (program, _) = shell("much", script);
        let before = most_memory();
        let (mut lines, mut longest, mut last) = (0, 0, String::new());
        let ended = program.hear(Instant::now() + Duration::from_secs(600), |line| {
            lines += 1;
            longest = longest.max(line.len());
            last = line.to_owned();
        });
        let ended = ended.await.unwrap();
        assert_eq!((lines, longest, last.as_str()), (30_000_002, LINE_MAX, "last"));
        assert!(most_memory() - before < 100 << 20, "{} bytes of 330 MB are kept", most_memory() - before);
        assert!(!ended.succeeded && ended.err.len() <= SAID_MAX && !ended.err.contains("first"));
        assert!(ended.into_error().to_string().ends_with("why"));
    }
}
