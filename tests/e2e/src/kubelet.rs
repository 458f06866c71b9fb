//! A kubelet for one Pod, as far as its containers can tell: volumes are directories, containers are runc's, the network is a
//! namespace that somebody else has made. No scheduler, no device plugin, no seccomp profile.

use crate::invocation::Invocation;
use crate::throwaway::Throwaway;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The resource under which the operator asks for `/dev/net/tun`.
const TUN: &str = "devices.kubevirt.io/tun";
const MIB: u64 = 1 << 20;

/// Secrets or ConfigMaps: name, and keys with their values.
pub type Objects<'a> = BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>;

/// A Pod on a node.
#[derive(Debug)]
pub struct Kubelet<'a> {
    throwaway: &'a Throwaway,
    pod: Value,
    /// What is this Pod's: volumes, bundles, runc's own.
    dir: PathBuf,
    rootfs: PathBuf,
    netns: &'a str,
}

impl<'a> Kubelet<'a> {
    /// Makes the Pod's volumes below `dir`; those of the node itself are below `node`. `rootfs` is its image, unpacked.
    pub fn admit(
        throwaway: &'a Throwaway,
        pod: Value,
        dir: PathBuf,
        node: &Path,
        rootfs: &Path,
        netns: &'a str,
        objects: &Objects<'_>,
    ) -> Kubelet<'a> {
        let kubelet = Kubelet { throwaway, pod, dir, rootfs: rootfs.to_path_buf(), netns };
        let group = kubelet.pod["spec"]["securityContext"]["fsGroup"].as_u64().map(|group| group as u32);
        for volume in list(&kubelet.pod["spec"]["volumes"]) {
            let path = kubelet.volume(text(&volume["name"]));
            if let Some(on_node) = volume["hostPath"]["path"].as_str() {
                let there = node.join(on_node.trim_start_matches('/'));
                fs::create_dir_all(&there).expect("a directory of the node");
                fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
                symlink(there, path).expect("a link");
                continue;
            }
            fs::create_dir_all(&path).expect("a volume");
            let mode = match volume.get("emptyDir") {
                Some(_) => 0o2777,
                None => 0o2755,
            };
            chown(&path, None, group).expect("a group");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
            for (name, content) in kubelet.files_of(volume, objects) {
                publish(&path, &name, &content, group);
            }
        }
        kubelet
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.dir.join("volumes").join(name)
    }

    /// What a volume holds from the start.
    fn files_of(&self, volume: &Value, objects: &Objects<'_>) -> Vec<(String, String)> {
        if let Some(items) = volume["downwardAPI"]["items"].as_array() {
            let annotation = |item: &Value| {
                let field = text(&item["fieldRef"]["fieldPath"]);
                let key = field.trim_start_matches("metadata.annotations['").trim_end_matches("']");
                text(&self.pod["metadata"]["annotations"][key]).to_owned()
            };
            return items.iter().map(|item| (text(&item["path"]).to_owned(), annotation(item))).collect();
        }
        let Some(source) = volume.get("secret").or(volume.get("configMap")) else { return Vec::new() };
        let name = source.get("secretName").or(source.get("name")).map(text).unwrap_or_default();
        let Some(data) = objects.get(name) else {
            assert_eq!(source["optional"], true, "a Pod whose {name} does not exist does not start");
            return Vec::new();
        };
        match source["items"].as_array() {
            None => data.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            Some(items) => {
                items.iter().map(|item| (text(&item["path"]).to_owned(), data[text(&item["key"])].to_owned())).collect()
            }
        }
    }

    /// A container by its name, to be started: its output is ours.
    pub fn container(&self, name: &str) -> Invocation {
        let spec = &self.pod["spec"];
        let mut all = list(&spec["initContainers"]).chain(list(&spec["containers"]));
        let container = all.find(|one| one["name"] == name).expect("a container of the Pod");
        let bundle = self.dir.join("bundles").join(name);
        fs::create_dir_all(&bundle).expect("a bundle");
        fs::write(bundle.join("config.json"), self.runtime_spec(container).to_string()).expect("a configuration");
        self.runc(&["run", "--bundle", bundle.to_str().expect("a path"), &self.id(name)])
    }

    /// What `kubectl exec -i` does.
    pub fn exec(&self, name: &str, command: &[&str]) -> Invocation {
        self.runc(&["exec", &self.id(name)]).args(command)
    }

    /// What `kubectl exec -it` does.
    pub fn exec_on_terminal(&self, name: &str, command: &[&str]) -> Invocation {
        self.runc(&["exec", "--tty", &self.id(name)]).args(command)
    }

    /// A probe of a container, carried out once.
    pub fn probe(&self, name: &str, kind: &str) -> Invocation {
        let container = list(&self.pod["spec"]["containers"]).find(|one| one["name"] == name).expect("a container");
        let command: Vec<&str> = list(&container[kind]["exec"]["command"]).map(text).collect();
        self.exec(name, &command)
    }

    fn id(&self, name: &str) -> String {
        format!(
            "ignite-e2e-{}-{}-{name}",
            std::process::id(),
            self.dir.file_name().unwrap_or_default().to_string_lossy()
        )
    }

    fn runc(&self, arguments: &[&str]) -> Invocation {
        let root = self.dir.join("runc");
        self.throwaway.call(["runc".as_ref(), "--root".as_ref(), root.as_os_str()]).args(arguments)
    }

    /// A container as the container runtime interface has it made (OCI runtime-spec 1.0).
    fn runtime_spec(&self, container: &Value) -> Value {
        let (pod_security, security) = (&self.pod["spec"]["securityContext"], &container["securityContext"]);
        let of_both = |field: &str| security.get(field).unwrap_or(&pod_security[field]);
        let strings = |value: &Value| list(value).map(|one| text(one).to_owned()).collect::<Vec<_>>();
        let mut env = vec!["PATH=/usr/bin".to_owned(), "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt".to_owned()];
        env.extend(list(&container["env"]).map(|one| format!("{}={}", text(&one["name"]), text(&one["value"]))));
        let groups: Vec<u64> = pod_security["fsGroup"]
            .as_u64()
            .into_iter()
            .chain(list(&pod_security["supplementalGroups"]).filter_map(Value::as_u64))
            .collect();
        assert_eq!(security["capabilities"]["drop"], json!(["ALL"]), "the operator's containers drop all");
        let capabilities: Vec<String> =
            strings(&security["capabilities"]["add"]).into_iter().map(|one| format!("CAP_{one}")).collect();
        let args = [strings(&container["command"]), strings(&container["args"])].concat();
        let limits = &container["resources"]["limits"];
        let mut devices = Vec::new();
        let mut allowed = vec![json!({ "allow": false, "access": "rwm" })];
        if limits.get(TUN).is_some() {
            devices.push(json!({ "path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o666 }));
            allowed.push(json!({ "allow": true, "type": "c", "major": 10, "minor": 200, "access": "rw" }));
        }
        let memory = text(&limits["memory"]).trim_end_matches("Mi").parse::<u64>().expect("mebibytes") * MIB;
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false, "cwd": "/", "env": env,
                "args": args,
                "user": { "uid": of_both("runAsUser"), "gid": of_both("runAsGroup"), "additionalGids": groups },
                "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
                "noNewPrivileges": security["allowPrivilegeEscalation"] == false,
            },
            "root": { "path": self.rootfs, "readonly": security["readOnlyRootFilesystem"] },
            "hostname": self.pod["metadata"]["name"],
            "mounts": self.mounts(container),
            "linux": {
                "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                    { "type": "network", "path": format!("/run/netns/{}", self.netns) }],
                "devices": devices,
                "resources": { "devices": allowed, "memory": { "limit": memory } },
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug",
                    "/proc/scsi", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            },
        })
    }

    fn mounts(&self, container: &Value) -> Vec<Value> {
        let of = |to: &str, kind: &str, options: &[&str]| json!({ "destination": to, "type": kind, "source": kind, "options": options });
        let mut mounts = vec![
            of("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            of("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            of("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            of("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            of("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ];
        let mut own: Vec<&Value> = list(&container["volumeMounts"]).collect();
        own.sort_by_key(|mount| text(&mount["mountPath"]).len());
        for mount in own {
            let volume = fs::canonicalize(self.volume(text(&mount["name"]))).expect("a volume");
            let source = mount.get("subPath").map_or(volume.clone(), |path| volume.join(text(path)));
            assert!(source.is_dir(), "{} is not there: the kubelet would make it root's", source.display());
            let mode = if mount["readOnly"] == true { "ro" } else { "rw" };
            mounts.push(json!({ "destination": mount["mountPath"], "type": "bind", "source": source,
                "options": ["rbind", "rprivate", mode] }));
        }
        mounts
    }
}

impl Drop for Kubelet<'_> {
    /// A test that fails leaves no container.
    fn drop(&mut self) {
        let root = self.dir.join("runc");
        for container in fs::read_dir(&root).into_iter().flatten().flatten() {
            let mut runc = Command::new("runc");
            runc.arg("--root").arg(&root).args(["delete", "--force"]).arg(container.file_name());
            let _ = runc.output();
        }
    }
}

/// A file as the kubelet puts it into a volume: all of them change at once, by one link.
fn publish(volume: &Path, name: &str, content: &str, group: Option<u32>) {
    let data = volume.join("..2026_01_01");
    fs::create_dir_all(&data).expect("a directory");
    chown(&data, None, group).expect("a group");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o2755)).expect("a mode");
    fs::write(data.join(name), content).expect("a file");
    chown(data.join(name), None, group).expect("a group");
    fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o640)).expect("a mode");
    if !volume.join("..data").exists() {
        symlink("..2026_01_01", volume.join("..data")).expect("a link");
    }
    symlink(format!("..data/{name}"), volume.join(name)).expect("a link");
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
