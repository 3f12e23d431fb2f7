//! Which processes run on a host, read from /proc of the machine below.

use std::fs;
use std::path::Path;

use super::protocol::Target;

/// A process of a host, by the number the machine knows it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// What it is, if it is something faults ask for.
    pub target: Option<Target>,
}

/// All processes in the PID namespace of a host's first process, in order of their numbers.
pub fn of_host(init: i32) -> Vec<Process> {
    let Some(namespace) = namespace_of(init) else { return Vec::new() };
    let mut found: Vec<Process> = all()
        .filter(|pid| namespace_of(*pid).as_ref() == Some(&namespace))
        .map(|pid| Process { pid, target: target_of(pid) })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// The children of a process.
pub fn children_of(parent: i32) -> Vec<i32> {
    all().filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

/// Kills a process and all that descend from it.
pub fn kill_tree(root: i32) {
    let children = children_of(root);
    let _ = super::machine::send(root, super::protocol::Signal::Kill);
    children.into_iter().for_each(kill_tree);
}

fn all() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn namespace_of(pid: i32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn target_of(pid: i32) -> Option<Target> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&str> = command.split(|b| *b == 0).filter_map(|w| std::str::from_utf8(w).ok()).collect();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    classify(name.trim(), &words)
}

const OTHER_MODES: [&str; 7] =
    ["--single", "--boot", "--check", "--version", "-V", "-C", "--describe-config"];

/// What a process is by its name and command line.
fn classify(name: &str, words: &[&str]) -> Option<Target> {
    let program = Path::new(words.first()?).file_name()?.to_str()?;
    match name {
        "sh" | "setpriv" => None,
        "etcd" => Some(Target::Etcd),
        "postgres" if words[0].starts_with("postgres:") && words[0].contains(": checkpointer") => {
            Some(Target::Checkpointer)
        }
        "postgres" if words[0].starts_with("postgres:") => Some(Target::Backends),
        // Other things one can do with the server's program: initdb does, and so do checks of settings.
        "postgres" if OTHER_MODES.iter().any(|mode| words.contains(mode)) => None,
        "postgres" => Some(Target::Postmaster),
        _ if program == "primacy" && words.get(1) == Some(&"guard") => Some(Target::Guard),
        _ if words.last().is_some_and(|w| w.is_empty()) => classify_agent(&words[..words.len() - 1]),
        _ => classify_agent(words),
    }
}

fn classify_agent(words: &[&str]) -> Option<Target> {
    words.last()?.ends_with("/agent.yml").then_some(Target::Agent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_told_by_name_and_command_line() {
        let agent = ["/lab/bin/primacy", "agent", "/lab/h1/agent.yml", ""];
        assert_eq!(classify("primacy", &agent), Some(Target::Agent));
        let before =
            ["setpriv", "--reuid=postgres", "--", "/lab/bin/primacy", "agent", "/lab/h1/agent.yml", ""];
        assert_eq!(classify("setpriv", &before), None);
        assert_eq!(classify("primacy", &["/lab/bin/primacy", "guard", "/data", ""]), Some(Target::Guard));
        let server = ["/usr/lib/postgresql/15/bin/postgres", "-D", "/lab/h1/data", ""];
        assert_eq!(classify("postgres", &server), Some(Target::Postmaster));
        assert_eq!(classify("postgres", &["postgres: lab: checkpointer "]), Some(Target::Checkpointer));
        assert_eq!(classify("postgres", &["postgres: lab: walwriter "]), Some(Target::Backends));
        assert_eq!(classify("postgres", &["postgres", "--single", "-D", "/lab/h1/data", ""]), None);
    }

    #[test]
    fn a_command_line_tool_of_the_agent_is_not_the_agent() {
        let tool = ["/lab/bin/primacy", "list", "-c", "/lab/h1/agent.yml", "-o", "json", ""];
        assert_eq!(classify("primacy", &tool), None);
    }
}
