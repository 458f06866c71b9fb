//! Writes who this VM is into its root: host name, hosts, name resolution, keys and files.

use crate::error::{Doing, SetupError};
use crate::rooted::Rooted;
use ignite_agent_protocol::message::{Configure, Dns, FileToWrite, HostsEntry, Interface};
use rustix::fs::{Mode, OFlags};
use std::fmt::Write;
use std::path::Path;

/// Writes all of it.
pub fn write(root: &Rooted, configure: &Configure) -> Result<(), SetupError> {
    let hostname = &configure.hostname;
    rustix::system::sethostname(hostname.as_bytes()).doing(|| format!("set host name {hostname}"))?;
    put(root, "/etc/hostname", &format!("{hostname}\n"))?;
    let hosts = hosts(hostname, &configure.interfaces, &configure.hosts);
    put(root, "/etc/hosts", &crate::peers::with_peers(&hosts, &configure.peers))?;
    if let Some(dns) = &configure.dns {
        write_resolv_conf(root, &resolv_conf(dns)).doing(|| "write /etc/resolv.conf".to_owned())?;
    }
    for file in &configure.files {
        write_file(root, file)?;
    }
    if !configure.ssh_authorized_keys.is_empty() {
        add_keys(root, &configure.ssh_authorized_keys).doing(|| "write /root/.ssh/authorized_keys".to_owned())?;
    }
    Ok(())
}

fn put(root: &Rooted, path: &str, contents: &str) -> Result<(), SetupError> {
    let path = Path::new(path);
    if root.read(path).is_ok_and(|found| found == contents.as_bytes()) {
        return Ok(());
    }
    // An image may have a link to nowhere, or a directory link that leads to something unwritable.
    let written = root.write(path, contents.as_bytes(), 0o644, (0, 0));
    written.or_else(|_| root.replace(path, contents.as_bytes())).doing(|| format!("write {}", path.display()))
}

/// `/etc/hosts` as Docker writes it; without an address the own name is 127.0.1.1, as Debian has it.
fn hosts(hostname: &str, interfaces: &[Interface], more: &[HostsEntry]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for entry in more {
        let _ = writeln!(text, "{}\t{}", entry.address, entry.names.join(" "));
    }
    let mut own = interfaces.iter().flat_map(|interface| &interface.addresses).peekable();
    let names = match hostname.split_once('.') {
        Some((short, _)) => format!("{hostname} {short}"),
        None => hostname.to_owned(),
    };
    if own.peek().is_none() {
        let _ = writeln!(text, "127.0.1.1\t{names}");
    }
    for address in own {
        let _ = writeln!(text, "{}\t{names}", address.split('/').next().unwrap_or(address));
    }
    text
}

fn resolv_conf(dns: &Dns) -> String {
    let mut text = String::new();
    for server in &dns.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !dns.search.is_empty() {
        let _ = writeln!(text, "search {}", dns.search.join(" "));
    }
    if !dns.options.is_empty() {
        let _ = writeln!(text, "options {}", dns.options.join(" "));
    }
    text
}

/// A link is followed, inside the root, to a regular file; one that dangles, or leads below `/run` (systemd-resolved's
/// stub, which does not exist yet), is replaced.
fn write_resolv_conf(root: &Rooted, contents: &str) -> std::io::Result<()> {
    let path = Path::new("/etc/resolv.conf");
    let leads_to_run = root.link_target(path).is_some_and(|target| {
        let target = target.to_string_lossy().into_owned();
        target.starts_with("/run/") || target.contains("../run/") || target.contains("/var/run/")
    });
    let exists = root.open_at(path, OFlags::PATH, Mode::empty()).is_ok();
    if exists && !leads_to_run {
        let written = root.write(path, contents.as_bytes(), 0o644, (0, 0));
        return written.or_else(|_| root.replace(path, contents.as_bytes()));
    }
    root.replace(path, contents.as_bytes())
}

fn write_file(root: &Rooted, file: &FileToWrite) -> Result<(), SetupError> {
    let invalid = || SetupError::Invalid { what: "contents of file", value: file.path.clone() };
    let contents = decode_hex(&file.contents_hex).ok_or_else(invalid)?;
    let written = root.write(Path::new(&file.path), &contents, file.mode, (file.uid, file.gid));
    written.doing(|| format!("write {}", file.path))
}

fn add_keys(root: &Rooted, keys: &[String]) -> std::io::Result<()> {
    let directory = Path::new("/root/.ssh");
    root.ensure_dir(Path::new("/root"), 0o700)?;
    root.ensure_dir(directory, 0o700)?;
    let opened = root.open_at(directory, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    rustix::fs::fchmod(&opened, Mode::from_raw_mode(0o700))?;
    let path = directory.join("authorized_keys");
    let found = match root.read(&path) {
        Ok(found) => String::from_utf8_lossy(&found).into_owned(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    root.write(&path, with_keys(&found, keys).as_bytes(), 0o600, (0, 0))
}

/// The file with the keys that it lacks appended, so that a restart adds none twice.
fn with_keys(found: &str, keys: &[String]) -> String {
    let mut text = found.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for key in keys.iter().map(|key| key.trim()) {
        if !text.lines().any(|line| line == key) {
            text.push_str(key);
            text.push('\n');
        }
    }
    text
}

/// Bytes from hexadecimal digits.
pub fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = |pair: &[u8; 2]| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn interface(addresses: &[&str]) -> Interface {
        Interface {
            mac: String::new(),
            name: "eth0".into(),
            addresses: addresses.iter().map(|&a| a.to_owned()).collect(),
            routes: vec![],
            mtu: None,
        }
    }

    #[test]
    fn hosts_name_this_vm_by_each_of_its_addresses() {
        let more = [HostsEntry { address: "10.0.0.9".into(), names: vec!["db".into(), "store".into()] }];
        let text = hosts("web.lan", &[interface(&["10.0.0.2/16", "fd00::2/64"])], &more);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "), "{text}");
        assert!(text.ends_with("10.0.0.9\tdb store\n10.0.0.2\tweb.lan web\nfd00::2\tweb.lan web\n"), "{text}");
        assert!(hosts("web", &[], &[]).ends_with("\n127.0.1.1\tweb\n"));
    }

    #[test]
    fn resolv_conf_has_a_line_per_kind() {
        let dns = Dns {
            servers: vec!["1.1.1.1".into(), "::1".into()],
            search: vec!["a".into(), "b".into()],
            options: vec!["ndots:2".into()],
        };
        assert_eq!(resolv_conf(&dns), "nameserver 1.1.1.1\nnameserver ::1\nsearch a b\noptions ndots:2\n");
        assert_eq!(resolv_conf(&Dns::default()), "");
    }

    #[test]
    fn keys_are_added_once() {
        let keys = ["k1 a".to_owned(), "k2 b\n".to_owned()];
        let once = with_keys("old", &keys);
        assert_eq!(once, "old\nk1 a\nk2 b\n");
        assert_eq!(with_keys(&once, &keys), once);
    }

    #[test]
    fn hex_is_strict() {
        assert_eq!(decode_hex("00fF"), Some(vec![0, 255]));
        assert_eq!(decode_hex(""), Some(vec![]));
        for bad in ["0", "0g", "+1", "é1"] {
            assert_eq!(decode_hex(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_link_to_the_stub_resolver_is_replaced_and_others_are_followed() {
        if !rustix::process::getuid().is_root() {
            eprintln!("skipped: files are given to root, which needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = Rooted::open(dir.path()).unwrap();
        let etc = dir.path().join("etc");
        std::fs::create_dir_all(dir.path().join("run/systemd/resolve")).unwrap();
        std::fs::write(dir.path().join("run/systemd/resolve/stub-resolv.conf"), "stub").unwrap();
        std::fs::create_dir(&etc).unwrap();
        for target in ["../run/systemd/resolve/stub-resolv.conf", "/nowhere/resolv.conf"] {
            let _ = std::fs::remove_file(etc.join("resolv.conf"));
            symlink(target, etc.join("resolv.conf")).unwrap();
            write_resolv_conf(&root, "x").unwrap();
            assert!(etc.join("resolv.conf").symlink_metadata().unwrap().is_file(), "{target}");
            assert_eq!(std::fs::read(etc.join("resolv.conf")).unwrap(), b"x");
        }
        assert_eq!(std::fs::read(dir.path().join("run/systemd/resolve/stub-resolv.conf")).unwrap(), b"stub");
        std::fs::remove_file(etc.join("resolv.conf")).unwrap();
        std::fs::write(etc.join("real.conf"), "old").unwrap();
        symlink("/etc/real.conf", etc.join("resolv.conf")).unwrap();
        write_resolv_conf(&root, "y").unwrap();
        assert_eq!(std::fs::read(etc.join("real.conf")).unwrap(), b"y");
    }
}
