//! The Debian packages that a lab needs: which are missing, and how they get here.
//!
//! A package counts as present when its program is there, wherever it came from. What is installed for a lab must not
//! run by itself; `install.sh` sees to that.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::place;

/// A program and the package it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The package.
    pub package: &'static str,
    /// A program of it.
    pub program: &'static str,
}

const NEEDS: &[Need] = &[
    Need { package: "postgresql-15", program: POSTGRES },
    Need { package: "etcd-server", program: "etcd" },
    Need { package: "iproute2", program: "ip" },
    Need { package: "util-linux", program: "unshare" },
    Need { package: "util-linux", program: "nsenter" },
    Need { package: "util-linux", program: "setpriv" },
    Need { package: "gcc", program: "cc" },
];

/// Not looked for in PATH, where Debian doesn't put it.
const POSTGRES: &str = "postgres";

/// The packages whose programs are missing.
pub fn missing() -> Vec<&'static str> {
    missing_among(NEEDS, &|need| match need.program {
        POSTGRES => place::postgres_programs().is_ok(),
        program => place::program(program).is_some(),
    })
}

fn missing_among(needs: &[Need], present: &dyn Fn(&Need) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<&str> =
        needs.iter().filter(|need| !present(need)).map(|need| need.package).collect();
    packages.dedup();
    packages
}

/// An error that says what to install, if anything is missing.
pub fn check() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("packages are missing; as root, please run\n{}", by_hand(&missing))
}

fn by_hand(packages: &[&str]) -> String {
    format!("  apt-get update && apt-get install --no-install-recommends {}", packages.join(" "))
}

/// Installs what is missing, without questions; says what it does. Returns what was installed.
pub fn install() -> Result<Vec<&'static str>> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(missing);
    }
    println!("Missing packages: {}", missing.join(" "));
    let root = rustix::process::geteuid().is_root();
    if !root && !may_sudo() {
        bail!(
            "neither root nor sudo without a password (`sudo -v` may ask for it before); as root, please run\n{}",
            by_hand(&missing)
        );
    }
    if place::program("apt-get").is_none() {
        bail!("this isn't Debian or one of its kin; please install what these packages hold");
    }
    fetch_and_install(root, &missing).map_err(|error| {
        error.context(format!("installing failed; as root it is\n{}\nWhat happened", by_hand(&missing)))
    })?;
    check()?;
    Ok(missing)
}

/// Waits while another one of its kind works.
const FETCH: &[&str] = &[
    "apt-get",
    "-oDPkg::Lock::Timeout=120",
    "install",
    "-q",
    "-y",
    "--no-install-recommends",
    "--download-only",
];

/// Fetching may take long and may be interrupted. Installing may not: it runs in a session of its own, to which
/// neither Ctrl-C nor the end of this program gets, so dpkg never stops in the middle of its work.
fn fetch_and_install(root: bool, packages: &[&str]) -> Result<()> {
    println!("  apt-get update");
    run(&mut as_root(root, &["apt-get", "update", "-q"]))?;
    println!("  apt-get install --no-install-recommends {}", packages.join(" "));
    run(as_root(root, FETCH).args(packages))?;
    let install = ["setsid", "--wait", "sh", "-c", include_str!("install.sh"), "install.sh"];
    run(as_root(root, &install).args(packages))
}

/// Whether sudo works without asking for a password.
pub fn may_sudo() -> bool {
    let sudo = Command::new("sudo").args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    sudo.is_ok_and(|status| status.success())
}

/// A command as root.
fn as_root(root: bool, words: &[&str]) -> Command {
    let mut command = if root { Command::new("env") } else { Command::new("sudo") };
    if !root {
        command.args(["-n", "env"]);
    }
    // After a mere `su`, PATH lacks what dpkg needs.
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    command.args([path, "DEBIAN_FRONTEND=noninteractive"]).args(words);
    command
}

/// Runs a command; when it fails, the error has the end of what it said.
fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("run apt-get")?;
    if output.status.success() {
        return Ok(());
    }
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    bail!("{}\n{}", output.status, lines[lines.len().saturating_sub(15)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_package_is_named_once() {
        let none = missing_among(NEEDS, &|_| false);
        assert_eq!(none, ["postgresql-15", "etcd-server", "iproute2", "util-linux", "gcc"]);
        let some = missing_among(NEEDS, &|need| need.program != "etcd");
        assert_eq!(some, ["etcd-server"]);
        assert_eq!(by_hand(&some), "  apt-get update && apt-get install --no-install-recommends etcd-server");
    }
}
