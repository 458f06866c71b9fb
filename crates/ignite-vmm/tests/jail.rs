//! A hostile program in a VMM's place, in the very jail a VMM gets: everything it tries is denied, limits bite, and
//! nothing is left. As root, and again as an ordinary user.

use ignite_vmm::IsolationWanted;
use ignite_vmm::jail::{
    Breach, JailError, JailSpec, Jailed, Limits, Network, remove_leftovers, spawn, system_libraries,
};
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Generous: the hosts these tests run on may be busy.
const DEADLINE: Duration = Duration::from_secs(60);
/// Set in the copy of this test that runs as an ordinary user.
const AS_USER: &str = "IGNITE_JAIL_TEST_AS_USER";
/// `nobody`.
const USER: u32 = 65_534;

/// A directory of one machine, with the hostile program; `None`, told, where it cannot be built.
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
fn place() -> Option<(TempDir, PathBuf)> {
    let dir = TempDir::new().unwrap();
    let program = dir.path().join("hostile");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/hostile.c");
    let built = Command::new("gcc").args(["-static", "-O1", "-w", "-o"]).args([&program, &source]).status();
    if !built.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: gcc cannot build a static program here");
        return None;
    }
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    Some((dir, program))
}

fn spec(dir: &Path, program: &Path, name: &str, arguments: &[&str]) -> JailSpec {
    let run_dir = dir.join(format!("run-{name}"));
    std::fs::create_dir(&run_dir).unwrap();
    JailSpec {
        id: format!("jail-{}-{name}", std::process::id()),
        program: program.to_owned(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        inherited: Vec::new(),
        reopened: Vec::new(),
        stdio: None,
        isolation: IsolationWanted::BestEffort,
        run_dir,
        shares: system_libraries(),
        network: Network::Own,
        limits: Limits { memory_bytes: Some(64 << 20), cpu_percent: Some(20), max_tasks: Some(40) },
    }
}

/// Waits for the end and gives what it said.
async fn finish(jailed: &mut Jailed) -> (std::process::ExitStatus, String) {
    let status = tokio::time::timeout(DEADLINE, jailed.process.wait()).await.expect("an end").expect("a status");
    let mut said = String::new();
    jailed.stderr.read_to_string(&mut said).unwrap();
    (status, said)
}

fn groups_of(spec: &JailSpec) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(spec.run_dir.join("cgroups.json")).unwrap_or_else(|_| "[]".into());
    serde_json::from_str(&text).unwrap()
}

async fn attempts_are_denied() {
    let Some((dir, program)) = place() else { return };
    let secret = dir.path().join("disk-of-another-vm");
    std::fs::write(&secret, "secret").unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o666)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let pid = std::process::id().to_string();
    let arguments = ["all", secret.to_str().unwrap(), &port, &pid];
    denied(dir.path(), &spec(dir.path(), &program, "denied", &arguments)).await;
    // In a network that was made for it, too; without root that is of another user namespace.
    let mut keeper = Command::new("unshare");
    let keeper = keeper.args(["-U", "-r", "-n", "sh", "-c", "echo; exec cat"]).stdin(Stdio::piped());
    let mut keeper = keeper.stdout(Stdio::piped()).spawn().unwrap();
    keeper.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let network = Network::Machines(format!("/proc/{}/ns/net", keeper.id()).into());
    denied(dir.path(), &JailSpec { network, ..spec(dir.path(), &program, "denied-in-network", &arguments) }).await;
    drop(keeper.stdin.take());
    keeper.wait().unwrap();
}

async fn denied(dir: &Path, spec: &JailSpec) {
    let mut jailed = spawn(spec).unwrap();
    let groups = groups_of(spec);
    let (status, said) = finish(&mut jailed).await;
    assert!(status.success() && said.ends_with("done\n"), "{status}: {said} {:?}", jailed.isolation);
    let allowed: Vec<&str> = said.lines().filter(|line| line.contains("ALLOWED")).collect();
    assert!(allowed.is_empty(), "{allowed:?} with {:?}", jailed.isolation);
    assert_eq!(said.lines().count(), 25, "every attempt is told: {said}");
    for measure in ["pid-namespace", "mount-namespace", "network-namespace", "landlock", "seccomp", "capabilities"] {
        assert_eq!(jailed.isolation[measure], "applied", "{:?}", jailed.isolation);
    }
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(dir.to_str().unwrap()), "no mount is left");
}

#[tokio::test]
async fn what_a_hostile_vmm_tries_is_denied() {
    attempts_are_denied().await;
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
async fn what_a_hostile_vmm_of_an_ordinary_user_tries_is_denied() {
    if std::env::var_os(AS_USER).is_some() || !rustix::process::geteuid().is_root() {
        return attempts_are_denied().await;
    }
    // The same test as another user, from a copy that user can reach.
    let dir = TempDir::new().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let copy = dir.path().join("test");
    // By another process: a child that a neighbouring test forks would hold our copy open for writing.
    let copied = Command::new("cp").args([&std::env::current_exe().unwrap(), &copy]).status().unwrap();
    assert!(copied.success());
    let output = Command::new(copy)
        .args(["--exact", "what_a_hostile_vmm_of_an_ordinary_user_tries_is_denied", "--nocapture"])
        .env(AS_USER, "1")
        .env("TMPDIR", "/tmp")
        .current_dir("/")
        .uid(USER)
        .gid(USER)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    eprintln!("{said}");
    assert!(output.status.success(), "{said}");
}

#[tokio::test]
#[allow(clippy::print_stderr, reason = "a skipped test says why")]
async fn limits_bite_say_why_and_leave_the_neighbour_alone() {
    let Some((dir, program)) = place() else { return };
    let mut neighbour = spawn(&spec(dir.path(), &program, "neighbour", &["sleep"])).unwrap();
    for (what, measure) in [("memory", "memory-limit"), ("fork", "pids-limit")] {
        let spec = spec(dir.path(), &program, what, &[what]);
        let mut jailed = spawn(&spec).unwrap();
        if jailed.isolation[measure] != "applied" {
            eprintln!("SKIPPED {measure}: {}", jailed.isolation[measure]);
            continue;
        }
        let groups = groups_of(&spec);
        assert!(!groups.is_empty() && groups.iter().all(|group| group.exists()), "{groups:?}");
        let (status, _) = finish(&mut jailed).await;
        assert!(!status.success(), "{what}: {status}");
        match (what, jailed.process.breach()) {
            ("memory", Some(Breach::Memory { limit_bytes })) => assert_eq!(limit_bytes, 64 << 20),
            ("fork", Some(Breach::Tasks { max_tasks })) => assert_eq!(max_tasks, 40),
            other => panic!("{other:?}"),
        }
        assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
    }
    let burner = spec(dir.path(), &program, "cpu", &["cpu"]);
    let mut jailed = spawn(&burner).unwrap();
    if jailed.isolation["cpu-limit"] == "applied" {
        let group = groups_of(&burner).into_iter().find(|group| group.join("cpu.stat").exists()).unwrap();
        // Its ticks of CPU time, just before its end: 3 s at 20 % are 60, and never near 300.
        let throttled = async {
            loop {
                let stat = std::fs::read_to_string(group.join("cpu.stat")).unwrap_or_default();
                if stat.lines().any(|line| line.starts_with("nr_throttled ") && line != "nr_throttled 0") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, throttled).await.expect("it is throttled");
        finish(&mut jailed).await;
    }
    let is_there = neighbour.process.pid().is_some_and(|pid| Path::new(&format!("/proc/{pid}/root")).exists());
    assert!(is_there, "the neighbour lives");
    neighbour.process.kill().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&finish(&mut neighbour).await.0), Some(9));
}

#[tokio::test]
async fn groups_that_a_killed_supervisor_left_are_removed_with_what_runs_in_them() {
    let Some((dir, program)) = place() else { return };
    let spec = spec(dir.path(), &program, "left", &["sleep"]);
    let mut jailed = spawn(&spec).unwrap();
    let groups = groups_of(&spec);
    remove_leftovers(&spec.run_dir).unwrap();
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
    if groups.is_empty() {
        jailed.process.kill().unwrap();
    }
    assert!(!finish(&mut jailed).await.0.success());
    remove_leftovers(&spec.run_dir).unwrap();
}

#[tokio::test]
async fn strict_refuses_less_and_names_it_and_leaves_nothing() {
    let Some((dir, program)) = place() else { return };
    let strict = JailSpec {
        isolation: IsolationWanted::Strict,
        network: Network::Callers,
        ..spec(dir.path(), &program, "strict", &["sleep"])
    };
    match spawn(&strict) {
        Err(JailError::TooLittle(missing)) => assert!(missing.contains_key("network-namespace"), "{missing:?}"),
        other => panic!("{other:?}"),
    }
    assert!(groups_of(&strict).iter().all(|group| !group.exists()));
}
