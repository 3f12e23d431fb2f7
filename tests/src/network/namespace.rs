//! A host's network namespace with its one device, both held as open files.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::ioctl::{Setter, ioctl, opcode};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use super::Host;

/// A network namespace with the host's address on a TUN device.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// Makes the namespace of a host; the second part is the switch's end of its cable.
    pub fn create(host: Host) -> Result<(Namespace, OwnedFd)> {
        let made = std::thread::spawn(move || {
            // SAFETY: only the network namespace of this short-lived thread changes, no file table is unshared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
                .context("make a network namespace (are you root?)")?;
            let file = File::open("/proc/thread-self/ns/net").context("open the new network namespace")?;
            let cable = open_device()?;
            configure(host)?;
            Ok((Namespace { file }, cable))
        });
        made.join().expect("making a namespace doesn't panic")
    }

    /// A path by which other processes of root find it, as long as this process lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }
}

/// Moves the calling thread into the network namespace at a path.
pub fn enter(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| format!("open the network namespace {}", path.display()))?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
        .context("enter a host's network namespace")
}

const DEVICE: &str = "lab0";
/// Large packets spare the switch work, which matters when three nodes share two cores.
const MTU: &str = "9000";

fn open_device() -> Result<OwnedFd> {
    let file = match open_tun("/dev/net/tun") {
        Err(Errno::NOENT) => open_own_node(),
        other => other,
    };
    let file =
        file.context("open /dev/net/tun (the kernel module tun; in a container: --device /dev/net/tun)")?;
    const IFF_TUN: u16 = 0x1;
    const IFF_NO_PI: u16 = 0x1000;
    let mut request = [0_u8; 40];
    request[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
    request[16..18].copy_from_slice(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
    const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 202);
    // SAFETY: TUNSETIFF takes a struct ifreq, 40 bytes with the name at 0 and the flags at 16.
    unsafe { ioctl(&file, Setter::<TUNSETIFF, [u8; 40]>::new(request)) }.context("make a TUN device")?;
    Ok(file)
}

fn open_tun(path: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
}

/// A plain chroot has no such file in /dev, which says nothing about the kernel.
fn open_own_node() -> Result<OwnedFd, Errno> {
    let path = format!("/var/tmp/primacy-lab-tun-{}", std::process::id());
    let _ = std::fs::remove_file(&path);
    rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::CharacterDevice, Mode::RWXU, makedev(10, 200))?;
    let opened = open_tun(&path);
    let _ = std::fs::remove_file(&path);
    opened
}

fn configure(host: Host) -> Result<()> {
    let batch = format!(
        "link set lo up\naddress add {}/24 dev {DEVICE}\nlink set {DEVICE} mtu {MTU} txqueuelen 2000 up\n",
        host.address()
    );
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("run ip (package iproute2)")?;
    ip.stdin.take().expect("piped").write_all(batch.as_bytes()).context("tell ip what to do")?;
    if !ip.wait().context("wait for ip")?.success() {
        bail!("ip could not give {host} its address");
    }
    Ok(())
}
