//! Where this host's cgroup hierarchies are, and which group of each is ours: read from two files of `/proc`.

use std::io;
use std::path::{Path, PathBuf};

/// What a limit needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Memory, the page cache included.
    Memory,
    /// CPU time.
    Cpu,
    /// Number of processes and threads.
    Pids,
}

impl Controller {
    /// All of them.
    pub const ALL: [Controller; 3] = [Controller::Memory, Controller::Cpu, Controller::Pids];

    /// The kernel's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::Pids => "pids",
        }
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Controllers named at its mount: of v1 only.
    pub(super) controllers: Vec<Controller>,
    /// Where it is mounted.
    pub(super) mount_point: PathBuf,
    /// The directory of the calling process' group; the mount point where that cannot be seen.
    pub(super) own: PathBuf,
}

/// The hierarchies of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Of v1, each with one or more controllers.
    pub(super) v1: Vec<Hierarchy>,
    /// Of v2.
    pub(super) v2: Option<Hierarchy>,
}

impl Layout {
    /// Of the host as the calling process sees it.
    pub fn of_host() -> io::Result<Layout> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        Ok(Layout::parse(&mounts, &own))
    }

    /// From the texts of `/proc/self/mountinfo` (proc(5)) and `/proc/self/cgroup` (cgroups(7)). Lines that are not
    /// understood are left out.
    pub fn parse(mountinfo: &str, own: &str) -> Layout {
        let mut layout = Layout::default();
        for mount in mountinfo.lines().filter_map(parse_mount) {
            let controllers: Vec<Controller> = Controller::ALL
                .into_iter()
                .filter(|controller| mount.super_options.split(',').any(|option| option == controller.as_str()))
                .collect();
            let is_v2 = mount.kind == "cgroup2";
            let Some(path) = own.lines().find_map(|line| own_path(line, is_v2, &controllers)) else { continue };
            let hierarchy =
                Hierarchy { own: directory_of(path, &mount), controllers, mount_point: mount.mount_point.clone() };
            match is_v2 {
                true => layout.v2 = layout.v2.or(Some(hierarchy)),
                false if !layout.v1.iter().any(|known| known.controllers == hierarchy.controllers) => {
                    layout.v1.push(hierarchy);
                }
                false => {}
            }
        }
        layout
    }
}

struct Mount<'a> {
    root: String,
    mount_point: PathBuf,
    kind: &'a str,
    super_options: &'a str,
}

/// `31 23 0:28 ROOT MOUNT_POINT options [optional…] - TYPE SOURCE SUPER_OPTIONS`, of cgroup file systems.
fn parse_mount(line: &str) -> Option<Mount<'_>> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(3);
    let (root, mount_point) = (unescape(front.next()?), unescape(front.next()?));
    let mut back = back.split(' ');
    let kind = back.next().filter(|kind| matches!(*kind, "cgroup" | "cgroup2"))?;
    Some(Mount { root, mount_point: mount_point.into(), kind, super_options: back.nth(1)? })
}

/// Undoes `\040` and its kin.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// The path in `4:memory:/path` or `0::/path`, when the line is of this hierarchy.
fn own_path<'a>(line: &'a str, is_v2: bool, controllers: &[Controller]) -> Option<&'a str> {
    let mut parts = line.splitn(3, ':');
    let (number, names, path) = (parts.next()?, parts.next()?, parts.next()?);
    let is_of_it = match is_v2 {
        true => number == "0" && names.is_empty(),
        false => controllers.first().is_some_and(|first| names.split(',').any(|name| name == first.as_str())),
    };
    is_of_it.then_some(path)
}

/// A path within a hierarchy as a directory below its mount point.
fn directory_of(path: &str, mount: &Mount<'_>) -> PathBuf {
    let below = Path::new(path).strip_prefix(&mount.root).ok();
    let is_plain = |below: &&Path| below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    match below.filter(is_plain) {
        Some(below) if !below.as_os_str().is_empty() => mount.mount_point.join(below),
        _ => mount.mount_point.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw";

    #[test]
    fn a_hybrid_host_has_its_controllers_in_v1() {
        let layout = Layout::parse(HYBRID, "8:pids:/\n4:memory:/box/a\n1:cpu,cpuacct:/\n9:name=systemd:/\n0::/\n");
        let found: Vec<_> = layout.v1.iter().map(|h| (h.controllers.clone(), h.own.to_str().unwrap())).collect();
        assert_eq!(
            found,
            [
                (vec![Controller::Cpu], "/sys/fs/cgroup/cpu,cpuacct"),
                (vec![Controller::Memory], "/sys/fs/cgroup/memory/box/a"),
                (vec![Controller::Pids], "/sys/fs/cgroup/pids"),
            ]
        );
        assert_eq!(layout.v2.unwrap().own, Path::new("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn a_v2_host_has_one_hierarchy() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        let layout = Layout::parse(mounts, "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n");
        assert!(layout.v1.is_empty());
        let v2 = layout.v2.unwrap();
        assert_eq!(v2.mount_point, Path::new("/sys/fs/cgroup"));
        assert!(v2.own.ends_with("user@1000.service/app.slice/x.scope"), "{}", v2.own.display());
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let mounts = "30 23 0:26 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        assert_eq!(Layout::parse(mounts, "4:memory:/docker/abc\n").v1[0].own, Path::new("/sys/fs/cgroup/memory"));
        // A path that is not below the mount's root, or leads out of it, is never followed.
        for own in ["4:memory:/elsewhere\n", "4:memory:/docker/abc/../../x\n", "4:memory:/../x\n"] {
            assert_eq!(Layout::parse(mounts, own).v1[0].own, Path::new("/sys/fs/cgroup/memory"), "{own}");
        }
    }

    #[test]
    fn a_host_without_cgroups_has_none() {
        assert_eq!(Layout::parse("23 1 8:1 / / rw - ext4 /dev/sda1 rw", "").v2, None);
        assert_eq!(Layout::parse("", ""), Layout::default());
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(mounts in ".{0,200}", own in ".{0,100}") {
            let line = format!("1 2 0:1 / /m rw - cgroup cgroup rw,memory\n{mounts}");
            let _ = Layout::parse(&line, &format!("{own}\n4:memory:{own}"));
        }
    }
}
