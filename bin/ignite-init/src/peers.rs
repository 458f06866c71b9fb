//! The names of the VM's networks in its `/etc/hosts`: a block between two lines, kept up to date while the VM runs.
//!
//! What stands around the block is the image's, the user's or `identity`'s, and is left as it is.

use crate::rooted::Rooted;
use ignite_agent_protocol::message::HostsEntry;
use std::fmt::Write;
use std::io;
use std::path::Path;

const HOSTS: &str = "/etc/hosts";
const DRAFT: &str = "/etc/.hosts.ignite";
const BEGIN: &str = "# Names of this VM's networks, kept by ignite:";
const END: &str = "# End of the names kept by ignite.";

/// Writes the names of now. Readers see the old file or the new one, but where `/etc/hosts` cannot be replaced (something
/// is mounted on it) it is written in place.
pub fn update(root: &Path, peers: &[HostsEntry]) -> io::Result<()> {
    let root = Rooted::open(root)?;
    let path = Path::new(HOSTS);
    let found = match root.read(path) {
        Ok(found) => String::from_utf8_lossy(&found).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(e),
    };
    let wanted = with_peers(&found, peers);
    if wanted == found {
        return Ok(());
    }
    match root.link_target(path) {
        None => root.exchange(path, Path::new(DRAFT), wanted.as_bytes()),
        Some(_) => root.write(path, wanted.as_bytes(), 0o644, (0, 0)),
    }
}

/// The file with the block of these names, in its place or at the end; without it where there are none.
pub fn with_peers(found: &str, peers: &[HostsEntry]) -> String {
    let (before, after) = around(found);
    let mut text = before.to_owned();
    if !peers.is_empty() {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let _ = writeln!(text, "{BEGIN}");
        for peer in peers {
            let _ = writeln!(text, "{}\t{}", peer.address, peer.names.join(" "));
        }
        let _ = writeln!(text, "{END}");
    }
    text.push_str(after);
    text
}

/// What stands before and after the block; all of it is before where there is no whole block.
fn around(text: &str) -> (&str, &str) {
    let line = |wanted: &str, from: usize| {
        let mut at = from;
        text[from..].split_inclusive('\n').find_map(|line| {
            let start = at;
            at += line.len();
            (line.trim_end() == wanted).then_some((start, at))
        })
    };
    let Some((begin, after_begin)) = line(BEGIN, 0) else { return (text, "") };
    match line(END, after_begin) {
        Some((_, end)) => (&text[..begin], &text[end..]),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str, names: &[&str]) -> HostsEntry {
        HostsEntry { address: address.into(), names: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn the_block_is_made_replaced_and_removed_and_all_else_stays() {
        let db = peer("10.61.0.3", &["db", "store"]);
        let made = with_peers("127.0.0.1\tlocalhost", std::slice::from_ref(&db));
        assert_eq!(made, format!("127.0.0.1\tlocalhost\n{BEGIN}\n10.61.0.3\tdb store\n{END}\n"));
        let edited = format!("{made}192.0.2.1\tmine\n");
        assert_eq!(with_peers(&edited, &[db]), edited);
        let replaced = with_peers(&edited, &[peer("fd00::4", &["web"])]);
        assert_eq!(replaced, format!("127.0.0.1\tlocalhost\n{BEGIN}\nfd00::4\tweb\n{END}\n192.0.2.1\tmine\n"));
        assert_eq!(with_peers(&replaced, &[]), "127.0.0.1\tlocalhost\n192.0.2.1\tmine\n");
        assert_eq!(with_peers("", &[]), "");
    }

    #[test]
    fn half_a_block_is_no_block() {
        let half = format!("a\n{BEGIN}\n10.0.0.1 x\n");
        assert_eq!(with_peers(&half, &[]), half);
    }

    #[test]
    fn the_file_is_replaced_as_a_whole() {
        if !rustix::process::getuid().is_root() {
            eprintln!("skipped: files are given to root, which needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let hosts = dir.path().join("etc/hosts");
        update(dir.path(), &[peer("10.0.0.2", &["a"])]).unwrap();
        assert_eq!(std::fs::read_to_string(&hosts).unwrap(), format!("{BEGIN}\n10.0.0.2\ta\n{END}\n"));
        let opened = std::fs::File::open(&hosts).unwrap();
        update(dir.path(), &[]).unwrap();
        assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "");
        assert_ne!(std::io::read_to_string(opened).unwrap(), "", "who has it open reads the old one to its end");
        assert_eq!(std::fs::read_dir(dir.path().join("etc")).unwrap().count(), 1);
    }
}
