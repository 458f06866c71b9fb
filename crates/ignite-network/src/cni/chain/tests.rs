//! The chain against scripts that play plugins and write down what they were told.

use super::*;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

/// Plays any plugin: notes its name, command, environment and input; answers by its file, else passes the previous
/// result on.
const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$0"); name=$(basename "$0")
input=$(cat)
echo "$name $CNI_COMMAND" >> "$here/calls"
env | grep '^CNI_' | sort > "$here/$name.$CNI_COMMAND.env"
printf '%s' "$input" > "$here/$name.$CNI_COMMAND.json"
[ -e "$here/$name.stderr" ] && cat "$here/$name.stderr" >&2
[ -e "$here/$name.$CNI_COMMAND.out" ] && cat "$here/$name.$CNI_COMMAND.out"
[ -e "$here/$name.$CNI_COMMAND.rc" ] && exit "$(cat "$here/$name.$CNI_COMMAND.rc")"
exit 0
"#;

struct Fixture {
    dir: TempDir,
    lock: File,
    list: NetworkList,
    dirs: Vec<PathBuf>,
}

impl Fixture {
    fn new(version: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for plugin in ["first", "second"] {
            let path = dir.path().join(plugin);
            fs::write(&path, SCRIPT).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let text =
            format!(r#"{{"cniVersion":"{version}","name":"net","plugins":[{{"type":"first"}},{{"type":"second"}}]}}"#);
        let lock = File::create(dir.path().join("lock")).unwrap();
        let dirs = vec![dir.path().join("nothing-here"), dir.path().to_owned()];
        Fixture { list: NetworkList::parse(text.as_bytes()).unwrap(), dir, lock, dirs }
    }

    fn answer(&self, file: &str, text: &str) {
        fs::write(self.dir.path().join(file), text).unwrap();
    }

    fn told(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.dir.path().join(file)).unwrap()).unwrap()
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default().replace('\n', ", ")
    }

    fn chain<'a>(&'a self, wishes: &'a Wishes) -> Chain<'a> {
        Chain {
            list: &self.list,
            target: Target { container_id: "ignite-1", netns: "/run/netns/x", ifname: "eth0" },
            wishes,
            plugin_dirs: &self.dirs,
            lock: self.lock.as_fd(),
        }
    }
}

const FIRST: &str = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.2/16"}]}"#;
const SECOND: &str = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.2/16"}],"dns":{"nameservers":["10.1.0.1"]}}"#;

#[tokio::test]
async fn each_plugin_gets_the_result_of_the_one_before() {
    let fixture = Fixture::new("1.0.0");
    fixture.answer("first.ADD.out", FIRST);
    fixture.answer("second.ADD.out", SECOND);
    let mut seen = Vec::new();
    let wishes = Wishes::default();
    let result = fixture
        .chain(&wishes)
        .add(|result| {
            seen.push(result.clone());
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(result["dns"]["nameservers"][0], "10.1.0.1");
    assert_eq!(fixture.told("first.ADD.json").get("prevResult"), None);
    assert_eq!(fixture.told("second.ADD.json")["prevResult"], seen[0]);
    let env = fs::read_to_string(fixture.dir.path().join("first.ADD.env")).unwrap();
    for line in [
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=ignite-1",
        "CNI_IFNAME=eth0",
        "CNI_NETNS=/run/netns/x",
        "CNI_ARGS=IgnoreUnknown=1",
    ] {
        assert!(env.lines().any(|found| found == line), "{line} in {env}");
    }

    assert!(fixture.chain(&wishes).check(&result).await.is_empty());
    assert!(fixture.chain(&wishes).del(Some(&result)).await.is_empty());
    assert_eq!(fixture.calls(), "first ADD, second ADD, first CHECK, second CHECK, second DEL, first DEL, ");
    assert_eq!(fixture.told("first.DEL.json")["prevResult"], result);
}

#[tokio::test]
async fn a_plugins_error_is_told_with_its_code_and_the_rest_is_not_called() {
    let fixture = Fixture::new("1.0.0");
    fixture.answer("first.ADD.out", r#"{"cniVersion":"1.0.0","code":11,"msg":"no room","details":"in 10.1.0.0/16"}"#);
    fixture.answer("first.ADD.rc", "1");
    let error = fixture.chain(&Wishes::default()).add(|_| Ok(())).await.unwrap_err();
    assert_eq!(error.to_string(), "CNI network \"net\": first ADD failed (code 11): no room (in 10.1.0.0/16)");
    assert_eq!(fixture.calls(), "first ADD, ");
}

#[tokio::test]
async fn what_is_no_answer_is_told_as_it_is() {
    let fixture = Fixture::new("1.0.0");
    let said = async || fixture.chain(&Wishes::default()).add(|_| Ok(())).await.unwrap_err().to_string();
    assert!(said().await.ends_with("it gave no result"));
    fixture.answer("first.ADD.out", "hello");
    assert!(said().await.contains("no JSON"));
    fixture.answer("first.ADD.out", "");
    fixture.answer("first.ADD.rc", "3");
    fixture.answer("first.stderr", "it hurts\x1b[0m\n");
    let last = said().await;
    assert!(last.ends_with("exit status: 3: it hurts [0m"), "{last}");
}

#[tokio::test]
async fn del_goes_on_and_tells_every_error() {
    let fixture = Fixture::new("1.0.0");
    for plugin in ["first", "second"] {
        fixture.answer(&format!("{plugin}.DEL.rc"), "1");
    }
    let errors = fixture.chain(&Wishes::default()).del(None).await;
    assert_eq!(errors.len(), 2);
    assert_eq!(fixture.calls(), "second DEL, first DEL, ");
}

#[tokio::test]
async fn check_and_gc_wait_for_their_versions() {
    let old = Fixture::new("0.3.1");
    let wishes = Wishes::default();
    assert!(old.chain(&wishes).check(&Value::Null).await.is_empty());
    assert!(old.chain(&wishes).gc(&[]).await.is_empty());
    assert_eq!(old.calls(), "");
    let new = Fixture::new("1.1.0");
    assert!(new.chain(&wishes).gc(&[("ignite-1".into(), "eth0".into())]).await.is_empty());
    assert_eq!(
        new.told("second.GC.json")["cni.dev/valid-attachments"],
        json!([{"containerID": "ignite-1", "ifname": "eth0"}])
    );
}

#[test]
fn only_portmaps_false_alarm_is_one() {
    let error = |plugin: &str, message: &str| NetworkError::CniPlugin {
        network: "net".into(),
        plugin: plugin.into(),
        command: "CHECK",
        code: Some(999),
        message: message.into(),
    };
    let four = json!({"ips": [{"address": "10.1.0.2/16"}]});
    let both = json!({"ips": [{"address": "10.1.0.2/16"}, {"address": "fd00::2/64"}]});
    let said = "could not check ipv6 dnat: chain CNI-DN-x not found in iptables table nat";
    assert!(is_false_alarm(&error("portmap", said), &four));
    assert!(!is_false_alarm(&error("portmap", said), &both));
    let rules = |target: &str| {
        format!("could not check ipv6 dnat: rule [[-p tcp -j DNAT --to-destination {target}]] not found")
    };
    assert!(is_false_alarm(&error("portmap", &rules("10.1.0.2:80")), &both));
    assert!(!is_false_alarm(&error("portmap", &rules("[fd00::2]:80")), &both));
    assert!(!is_false_alarm(&error("firewall", said), &four));
    assert!(!is_false_alarm(&error("portmap", "could not check ipv4 dnat"), &four));
}

#[tokio::test]
async fn a_plugin_holds_the_lock_as_long_as_it_runs() {
    use rustix::fs::{FlockOperation, flock};
    let fixture = Fixture::new("1.0.0");
    fixture.answer("first.ADD.out", FIRST);
    // What it starts goes on after it has answered.
    let fifo = fixture.dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let script = SCRIPT.replace("exit 0", "( exec > /dev/null 2>&1; read x < \"$here/fifo\" ) &");
    fs::write(fixture.dir.path().join("first"), script).unwrap();
    flock(&fixture.lock, FlockOperation::LockExclusive).unwrap();
    let plugin = &fixture.list.plugins[0];
    fixture.chain(&Wishes::default()).call(Command::Add, plugin, None).await.unwrap();
    let path = fixture.dir.path().join("lock");
    let Fixture { dir: _dir, lock, .. } = fixture;
    drop(lock);
    let other = File::open(&path).unwrap();
    assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err(), "it still runs");
    fs::write(&fifo, "end\n").unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
}
