//! A host to throw away: network, `/run`, CNI's directories and iptables back end of its own, and beside it another host
//! "outside", which it reaches by an address of its own.
//!
//! ```text
//!  throw-away host  198.51.100.1, fd51::1 ---- 198.51.100.2, fd51::2  outside
//! ```

use crate::invocation::Invocation;
use crate::wait::QUICK;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The address of the host towards the outside.
pub const HOST_ADDRESS: &str = "198.51.100.1";
/// The address of who is outside.
pub const OUTSIDE_ADDRESS: &str = "198.51.100.2";
/// Where CNI plugins may be.
const PLUGIN_DIRS: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];

/// It lasts as long as its standard input is open, so it does not outlive the tests however they end.
const SETUP: &str = r#"set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /var/lib/cni /etc/cni
mount -t tmpfs tmpfs /var/lib/cni
mount -t tmpfs tmpfs /etc/cni
mount -t tmpfs tmpfs /dev/net
mknod -m 666 /dev/net/tun c 10 200
if [ "$1" = legacy ]; then mount --bind /usr/sbin/xtables-legacy-multi /usr/sbin/xtables-nft-multi; fi
ip link set lo up
ip netns add outside
ip link add towards type veth peer name eth0 netns outside
ip addr add 198.51.100.1/24 dev towards
ip link set towards up
ip addr add fd51::1/64 dev towards nodad
ip -n outside addr add 198.51.100.2/24 dev eth0
ip -n outside addr add fd51::2/64 dev eth0 nodad
ip -n outside link set lo up
ip -n outside link set eth0 up
ip route add default via 198.51.100.2
echo ready
exec cat
"#;

/// Which program family's `iptables` the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iptables {
    /// nf_tables.
    Nft,
    /// x_tables.
    Legacy,
}

/// The host.
#[derive(Debug)]
pub struct Throwaway {
    keeper: Child,
}

impl Throwaway {
    /// Makes one, or says why that cannot be done here.
    pub fn new(iptables: Iptables) -> Result<Throwaway, String> {
        why_not(iptables).map_or(Ok(()), Err)?;
        let family = if iptables == Iptables::Legacy { "legacy" } else { "nft" };
        let mut keeper = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "private", "sh", "-c", SETUP, "sh", family])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start unshare");
        let mut said = String::new();
        let stdout = keeper.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut said).expect("read what the host says");
        let host = Throwaway { keeper };
        assert_eq!(said, "ready\n", "the throw-away host cannot be set up");
        let version = if iptables == Iptables::Legacy { "(legacy)" } else { "(nf_tables)" };
        host.call(["iptables", "--version"]).finish().succeeds().says(version);
        Ok(host)
    }

    /// How a program is started there: these words go before it.
    pub fn entry(&self) -> Vec<String> {
        let of = |kind: &str| format!("--{kind}=/proc/{}/ns/{}", self.keeper.id(), &kind[..3]);
        vec!["nsenter".into(), of("net"), of("mount").replace("/mou", "/mnt"), "--".into()]
    }

    /// A program on it.
    pub fn call<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Invocation {
        let entry = self.entry();
        Invocation::new(&entry[0]).args(&entry[1..]).args(words)
    }

    /// A program in one of its named namespaces.
    pub fn call_in<S: AsRef<OsStr>>(&self, netns: &str, words: impl IntoIterator<Item = S>) -> Invocation {
        self.call(["ip", "netns", "exec", netns]).args(words)
    }

    /// Configures a CNI network.
    pub fn configure(&self, file: &str, text: &str) {
        let script = "mkdir -p /etc/cni/net.d && cat > /etc/cni/net.d/$1";
        self.call(["sh", "-c", script, "sh", file]).stdin(text).finish().succeeds();
    }

    /// Everything on it that belongs to an attachment; empty when nothing is left.
    pub fn left_behind(&self) -> Vec<String> {
        let lines =
            |words: &[&str]| -> Vec<String> { self.call(words).finish().text().lines().map(str::to_owned).collect() };
        let mut left: Vec<String> = lines(&["ls", "/run/netns"]);
        left.retain(|name| name.starts_with("ignite-"));
        left.extend(
            lines(&["ip", "-o", "link"]).into_iter().filter(|line| line.contains(": veth") || line.contains("vm_")),
        );
        let leases = lines(&["find", "/var/lib/cni/networks", "-type", "f"]);
        left.extend(leases.into_iter().filter(|path| !path.contains("last_reserved_ip") && !path.ends_with("/lock")));
        for program in ["iptables-save", "ip6tables-save"] {
            let rules = lines(&[program]);
            left.extend(rules.into_iter().filter(|rule| rule.contains("ignite-") || rule.contains("--to-destination")));
        }
        left
    }

    /// Waits until nothing is left: who ends a VM is told before its last process has ended.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let mut left = Vec::new();
        let started = std::time::Instant::now();
        while started.elapsed() < QUICK {
            left = self.left_behind();
            if left.is_empty() {
                return;
            }
        }
        panic!("left behind on the host:\n  {}", left.join("\n  "));
    }

    /// A server as [`netprobe`] has it, which says `word`; ready when this returns.
    #[track_caller]
    pub fn serves(&self, netns: &str, port: &str, word: &str) -> crate::invocation::Running {
        let mut serving =
            self.call_in(netns, [netprobe().as_os_str(), "serve".as_ref(), port.as_ref(), word.as_ref()]).start();
        serving.prints_sometime("serving");
        serving
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn why_not(iptables: Iptables) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("CNI needs root".into());
    }
    if plugin("bridge").is_none() {
        return Some("the CNI plugins are not installed (apt-get install containernetworking-plugins)".into());
    }
    let can = Command::new("unshare").args(["--net", "--mount", "ip", "link"]).output();
    if !can.is_ok_and(|output| output.status.success()) {
        return Some("no network namespace can be made here with `unshare` and `ip`".into());
    }
    let has = |program: &str| Path::new("/usr/sbin").join(program).exists();
    match iptables {
        Iptables::Nft if has("iptables") => None,
        Iptables::Legacy if has("xtables-legacy-multi") && has("xtables-nft-multi") => None,
        _ => Some("iptables is not installed with both back ends".into()),
    }
}

/// A CNI plugin's program.
pub fn plugin(name: &str) -> Option<PathBuf> {
    PLUGIN_DIRS.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file())
}

/// `netprobe.c`, compiled once for this run of the tests: static, for guests too.
pub fn netprobe() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/netprobe.c");
        let tests = std::env::current_exe().expect("path of this program");
        let target = tests.with_file_name("netprobe");
        // By way of a name of its own: several runs of the tests may share the directory.
        let draft = tests.with_file_name(format!("netprobe.{}", std::process::id()));
        let compiled = Command::new("cc").args(["-static", "-O1", "-s", "-o"]).arg(&draft).arg(&source).status();
        assert!(compiled.is_ok_and(|status| status.success()), "compile {}", source.display());
        std::fs::rename(&draft, &target).expect("name netprobe");
        target
    })
}
