//! The Debian packages that a lab needs: which are missing, and how they get here.
//!
//! A package counts as present when its program is there, wherever it came from. What is installed for a lab must not
//! run by itself: Debian's packages of PostgreSQL and etcd start services, so while they are installed services are
//! forbidden, PostgreSQL's own cluster isn't made, and afterwards their units are disabled.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
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
    bail!("these packages are missing: {}\n{}", missing.join(" "), by_hand(&missing))
}

fn by_hand(packages: &[&str]) -> String {
    format!("  sudo apt-get install --no-install-recommends {}", packages.join(" "))
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
        bail!("neither root nor sudo without a password; please run\n{}", by_hand(&missing));
    }
    if place::program("apt-get").is_none() {
        bail!("this isn't Debian or one of its kin; please install what these packages hold");
    }
    let quiet = Quiet::begin(root)?;
    let done = apt(root, &["update", "-q"]).and_then(|()| apt(root, &install_arguments(&missing)));
    drop(quiet);
    done.with_context(|| format!("installing failed; by hand it is\n{}", by_hand(&missing)))?;
    disable_services(root, &missing);
    check()?;
    Ok(missing)
}

fn install_arguments<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend(packages);
    arguments
}

/// Whether sudo works without asking for a password.
pub fn may_sudo() -> bool {
    let sudo = Command::new("sudo").args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    sudo.is_ok_and(|status| status.success())
}

/// A command as root.
fn as_root(root: bool, program: &str) -> Command {
    let mut command = if root { Command::new("env") } else { Command::new("sudo") };
    if !root {
        command.args(["-n", "env"]);
    }
    // After a mere `su`, PATH lacks what dpkg needs.
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    command.args([path, "DEBIAN_FRONTEND=noninteractive", program]);
    command
}

fn apt(root: bool, arguments: &[&str]) -> Result<()> {
    println!("  apt-get {}", arguments.join(" "));
    let mut command = as_root(root, "apt-get");
    let output = command
        .args(["-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=120"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("run apt-get")?;
    if output.status.success() {
        return Ok(());
    }
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = text.lines().rev().take(15).collect();
    bail!(
        "apt-get {}: {}\n{}",
        arguments.join(" "),
        output.status,
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    )
}

/// While this lives, no package starts a service or makes a PostgreSQL cluster. Only what it wrote is removed again.
struct Quiet {
    root: bool,
    written: Vec<PathBuf>,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";
const CLUSTER: &str = "/etc/postgresql-common/createcluster.d/primacy-lab.conf";

impl Quiet {
    fn begin(root: bool) -> Result<Quiet> {
        let mut quiet = Quiet { root, written: Vec::new() };
        if !Path::new(POLICY).exists() {
            quiet.write(POLICY, "#!/bin/sh\nexit 101\n", "755")?;
        }
        quiet.write(CLUSTER, "create_main_cluster = false\n", "644")?;
        Ok(quiet)
    }

    fn write(&mut self, path: &str, text: &str, mode: &str) -> Result<()> {
        let draft = std::env::temp_dir().join(format!("primacy-lab-{}", std::process::id()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        let mut install = as_root(self.root, "install");
        let status = install.args(["-D", "-m", mode]).arg(&draft).arg(path).status();
        fs::remove_file(&draft)?;
        if !status.with_context(|| format!("write {path}"))?.success() {
            bail!("{path} can't be written");
        }
        self.written.push(path.into());
        Ok(())
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = as_root(self.root, "rm").arg("-f").args(&self.written).status();
    }
}

/// Services that came with these packages don't start at the next boot either, with any kind of init.
fn disable_services(root: bool, installed: &[&str]) {
    let services = [("postgresql-15", "postgresql"), ("etcd-server", "etcd")];
    for (_, name) in services.iter().filter(|(package, _)| installed.contains(package)) {
        let unit = format!("{name}.service");
        let ways: [(&str, &[&str]); 3] = [
            ("systemctl", &["disable", "--quiet", &unit]),
            ("deb-systemd-helper", &["disable", &unit]),
            ("update-rc.d", &[name, "disable"]),
        ];
        for (program, arguments) in ways.into_iter().filter(|(program, _)| place::program(program).is_some())
        {
            let mut disable = as_root(root, program);
            let _ = disable.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
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
        assert_eq!(by_hand(&some), "  sudo apt-get install --no-install-recommends etcd-server");
    }
}
