//! Every command, alias and flag of Weave Ignite v0.10, typed as its users type it, and what it does.

use ignite_e2e::images::{busybox, redis};
use ignite_e2e::{Host, Outcome};
use std::collections::BTreeSet;

const LIST: &str = include_str!("../../../../bin/ignite/tests/weave-ignite-v0.10.txt");

/// What one line of a script does. In every text `@x@` stands for a value of [`Script::values`], `^` for a space within a word, and `*` in what is
/// printed for anything.
struct Line {
    typed: &'static str,
    exits: i32,
    prints: &'static str,
    says: &'static str,
}

const fn does(typed: &'static str, prints: &'static str) -> Line {
    Line { typed, exits: 0, prints, says: "" }
}

const fn notes(typed: &'static str, prints: &'static str, says: &'static str) -> Line {
    Line { typed, exits: 0, prints, says }
}

const fn refuses(typed: &'static str, exits: i32, says: &'static str) -> Line {
    Line { typed, exits, prints: "", says }
}

const UID: &str = "????????????????\n";

/// Nothing of this boots.
const WITHOUT_A_BOOT: &[Line] = &[
    does("ignite --help", "*Usage: ignite*"),
    does("ignite -h", "*Usage: ignite*"),
    does("ignite version", "Ignite version: v*"),
    does("ignite version -o short", "v?.*\n"),
    does("ignite version --output json", "{\n  \"igniteVersion\": {*\"gitVersion\": \"v*"),
    does("ignite version -o yaml", "igniteVersion:\n  major: *"),
    does("ignite completion", "*_ignite*"),
    // Images and kernels.
    does("ignite image import --runtime registry --registry-config-dir @dir@ @image@", UID),
    does("ignite image", "IMAGE ID *NAME *CREATED *SIZE\n*@image@*"),
    does("ignite images", "IMAGE ID *@image@*"),
    does("ignite image ls", "IMAGE ID *@image@*"),
    does("ignite images list -q", UID),
    refuses(
        "ignite image import --runtime docker no-such-image:v0",
        1,
        "docker-daemon:docker.io/library/no-such-image:v0",
    ),
    refuses(
        "ignite image import --runtime containerd no-such-image:v0",
        1,
        "containerd:docker.io/library/no-such-image:v0",
    ),
    does("ignite kernel", "KERNEL ID *NAME *CREATED *SIZE *VERSION*"),
    does("ignite kernels ls", "KERNEL ID *VERSION*"),
    does("ignite kernel list -q", UID),
    does("ignite kernel import --runtime registry --registry-config-dir @dir@ @package@", UID),
    // Every flag that describes a VM.
    does(
        "ignite create @image@ --name first --config @manifest@ --ports 8080:80,8443:443/udp --copy-files @file@:/etc/a \
         --cpus 2 --kernel-args quiet --label tier=web --label zone= --require-name --memory 300MB --size 1GB --kernel-image \
         @kernel@ --sandbox-image weaveworks/ignite:dev --ssh --volumes @disk@:/data:size=64MB --runtime registry --network-plugin none --id-prefix lab \
         --registry-config-dir @dir@",
        UID,
    ),
    does("ignite inspect vm first -t {{.ObjectMeta.Name}}", "first\n"),
    does("ignite inspect vm first -t {{.ObjectMeta.Labels}}", "map[tier:web zone:]\n"),
    does("ignite inspect vm first -t {{.Spec.CPUs}},{{.Spec.Memory}},{{.Spec.DiskSize}}", "2,300.0 MB,1024.0 MB\n"),
    does("ignite inspect vm first -t {{.Spec.Network.Ports}}", "0.0.0.0:8080->80/tcp, 0.0.0.0:8443->443/udp\n"),
    does("ignite inspect vm first -t {{(index^.Spec.CopyFiles^0).VMPath}}", "/etc/a\n"),
    does("ignite inspect vm first -t {{.Spec.Kernel.OCI}},{{.Spec.Kernel.CmdLine}}", "@kernel@,quiet\n"),
    does("ignite inspect vm first -t {{.Spec.Sandbox.OCI}}", "weaveworks/ignite:dev\n"),
    does("ignite inspect vm first --template {{.Spec.SSH}}", "{true }\n"),
    does("ignite inspect vm first -t {{(index^.Spec.Storage.VolumeMounts^0).MountPath}}", "/data\n"),
    does("ignite inspect vm first -t {{.Status.IDPrefix}}", "lab\n"),
    does("ignite inspect VM first -o yaml", "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\n*mode: none\n*"),
    does("ignite inspect vm first --output json", "{\n*\"kind\": \"VM\",\n*"),
    does(
        "ignite vm create @image@ -n second -p 8080:80 -f @file@:/b -l a=b -s 1GB -k @kernel@ -v @disk@:/mnt:size=64MB --ssh=@key@",
        UID,
    ),
    does("ignite inspect vm second -t {{(index^.Spec.Storage.Volumes^0).Name}}", "volume0\n"),
    refuses("ignite create @image@ -v /dev/no-such:/mnt", 1, "/dev/no-such cannot be opened"),
    does("ignite inspect vm second -t {{.Spec.SSH}},{{.Spec.DiskSize}}", "{false @key@.pub},1024.0 MB\n"),
    does("ignite inspect image @image@ -t {{.Name}}", "@image@\n"),
    does("ignite inspect kernel @kernel@ -t {{.Status.Version}}", "@kernel@\n"),
    refuses("ignite create @image@ --require-name", 2, "--require-name: the VM has no name"),
    refuses("ignite create @image@ --copy-files a:/b", 2, "path arguments must be absolute"),
    refuses("ignite create @image@ --copy-files /a", 2, "--copy-files requires the /host/path:/vm/path form"),
    refuses("ignite create @image@ --volumes /a:b", 2, "volumes must be specified in the /host/path:/vm/path format"),
    refuses("ignite create @image@ --label x", 2, "invalid label value \"x\": supported syntax: --label <key>=<value>"),
    refuses("ignite create @image@ --label =v", 2, "invalid label \"=v\", name empty"),
    refuses("ignite create @image@ -p 22", 2, "port"),
    refuses("ignite create @image@ --ssh=/no/such", 2, "invalid SSH key: /no/such.pub"),
    refuses("ignite create @image@ --name first", 1, "the name \"first\" is taken by VM"),
    refuses("ignite create @image@ --name Upper", 1, "metadata.name"),
    // The configuration file, and the log.
    does("ignite --ignite-config @config@ create @image@ -n configured", UID),
    does("ignite inspect vm configured -t {{.Spec.Memory}},{{.Status.IDPrefix}}", "200.0 MB,conf\n"),
    refuses("ignite --ignite-config /no/such/file ps", 1, "/no/such/file"),
    does("ignite --log-level fatal ps", "VM ID*"),
    refuses("ignite --log-level loud ps", 1, "invalid log level"),
    // Lists and queries.
    does("ignite ps", "VM ID *IMAGE *KERNEL *SIZE *CPUS *MEMORY *CREATED *STATUS *IPS *PORTS *NAME\n"),
    does("ignite ps -a", "VM ID*first*"),
    does("ignite vm", "VM ID*first*"),
    does("ignite vms ls", "VM ID*first*"),
    does("ignite vm --all --filter {{.Name}}=first --template {{.Name}}", "first\n"),
    does("ignite vm list -a -f {{.ObjectMeta.Name}}=first -t {{.Name}}", "first\n"),
    does("ignite vm ps --all --filter {{.ObjectMeta.Name}}!=first,{{.Spec.CPUs}}=1 --template {{.Name}}", "*second\n*"),
    does("ignite vm ps", "VM ID *NAME\n"),
    does("ignite ps --all --filter {{.ObjectMeta.Labels}}=~tier:web --template {{.ObjectMeta.UID}}", UID),
    does("ignite ps -a -q -f {{.ObjectMeta.Name}}=first", UID),
    refuses("ignite ps -f nonsense=1", 1, "failed to extract keys-values from filter list"),
    refuses("ignite inspect pool x", 2, "unrecognized kind: \"pool\""),
    refuses("ignite inspect vm first -o toml", 2, "toml"),
    refuses("ignite inspect vm nobody", 1, "can't find VM: no ID/name matches for \"nobody\""),
    refuses("ignite attach first", 1, "is not running"),
    refuses("ignite exec first true", 125, "is not running"),
    refuses("ignite ssh first", 1, "is not running"),
    does("ignite stop first", "first\n"),
    refuses("ignite kill first", 1, "is not running"),
    refuses("ignite cp a b", 1, "no VM reference found in source or destination"),
    refuses("ignite cp first:/a second:/b", 1, "only one of source or destination can have VM name/ID"),
    // Removal.
    refuses("ignite rm", 2, "need at least one vm identifier as argument"),
    refuses("ignite rm --config @manifest@ first", 2, "cannot use both config flag and vm argument"),
    refuses("ignite rmi @image@", 1, "unable to remove, image"),
    refuses("ignite kernel rm @kernel@", 1, "unable to remove, kernel"),
    refuses("ignite rmk @kernel@", 1, "unable to remove, kernel"),
    does("ignite rm second", "second\n"),
    does("ignite vm rm -q configured", UID),
    does("ignite create --config @named@", UID),
    does("ignite vm rm --force --config @named@", "named\n"),
    does("ignite rm --force -q first", UID),
    does("ignite ps -aq", ""),
    // With -f the VMs that use it go too, as ever.
    does("ignite create @image@ -n user", UID),
    does("ignite image rm --force @image@", UID),
    does("ignite ps -aq", ""),
    does("ignite image import @image@", UID),
    does("ignite rmi -f @image@", UID),
    does("ignite create @image@ -n user", UID),
    does("ignite kernel rm --force @kernel@", UID),
    does("ignite ps -aq", ""),
    does("ignite kernel import @package@", UID),
    does("ignite rmk -f @kernel@", UID),
];

/// One VM, run, looked at, stopped, started and killed.
const WITH_A_VM: &[Line] = &[
    notes(
        "ignite run -d --name live --config @manifest@ --ports @port@:80 --copy-files @file@:/etc/a --cpus 1 --kernel-args \
         quiet --label a=b --require-name --memory 256MB --size 1GB --kernel-image @kernel@ --sandbox-image weaveworks/ignite \
         --ssh --volumes @disk@:/data:size=64MB --runtime registry --network-plugin user --id-prefix lab --registry-config-dir @dir@ --interactive --debug \
         --ignore-preflight-checks all @image@ sh -c echo^up;exec^sleep^1000",
        UID,
        "--ignore-preflight-checks has no effect",
    ),
    does("ignite ps", "VM ID*Up *0.0.0.0:@port@->80/tcp *live\n"),
    does("ignite ps -f {{.ObjectMeta.Name}}=live -t {{.Status.Running}}", "true\n"),
    does("ignite inspect vm live -t {{.Status.Network.IPAddresses}}", "10.*\n"),
    does("ignite exec live cat /etc/a", "content\n"),
    does("ignite exec live grep -o /data^ext4 /proc/mounts", "/data ext4\n"),
    does("ignite exec live -- ls -a /etc/a", "/etc/a\n"),
    notes("ignite exec --identity /k --timeout 3 live hostname", "live\n", "--identity has no effect"),
    refuses("ignite exec -t live sh -c exit^7", 7, ""),
    refuses("ignite exec --tty live sh -c exit^7", 7, ""),
    does("ignite logs live", "up\n"),
    does("ignite vm logs live", "up\n"),
    notes("ignite cp -i /k --timeout 3 @file@ live:/tmp/", "", "--identity has no effect"),
    notes("ignite cp --identity /k live:/tmp/a @dir@/back", "", "--identity has no effect"),
    does("ignite exec live cat /tmp/a", "content\n"),
    refuses("ignite ssh -i /k --timeout 1 --tty=false live", 1, "nothing listens on port 22"),
    refuses("ignite vm ssh --identity /k --timeout 1 -t live", 1, "nothing listens on port 22"),
    refuses("ignite rm live", 1, "is running"),
    refuses("ignite start live", 1, "running"),
    does("ignite stop live", "live\n"),
    notes(
        "ignite vm start --debug -d --ignore-preflight-checks=port --runtime docker --network-plugin cni live",
        "live\n",
        "--network-plugin has no effect",
    ),
    does("ignite vm kill -q live", UID),
    does("ignite start live", "live\n"),
    does("ignite vm stop -f live", "live\n"),
    does("ignite create --name brief @image@ echo brief", UID),
    does("ignite start -i brief", "brief\n"),
    does("ignite start --interactive brief", "brief\n"),
    // Behind an image that has nobody to give them to, flags are ours; behind one with an ENTRYPOINT they are not.
    does("ignite run @image@ -d --name behind --memory 128MB", UID),
    does("ignite inspect vm behind -t {{.Spec.Memory}}", "128.0 MB\n"),
    does("ignite create -n entry @redis@ --cpus 2", UID),
    does("ignite inspect vm entry -t {{.Spec.CPUs}}", "1\n"),
];

struct Script<'a> {
    host: &'a Host,
    values: Vec<(&'static str, String)>,
}

impl Script<'_> {
    fn fill(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
    }

    fn types(&self, line: &Line) -> Outcome {
        let words: Vec<String> =
            line.typed.split_whitespace().skip(1).map(|word| self.fill(word).replace('^', " ")).collect();
        self.host.does(words)
    }

    fn check(&self, line: &Line) {
        let outcome = self.types(line);
        outcome.exits(line.exits);
        let expected = self.fill(line.prints);
        assert!(
            line.exits != 0 || matches(&expected, &outcome.text()),
            "{} should print {expected:?}\n{outcome}",
            line.typed
        );
        if !line.says.is_empty() {
            outcome.complains(&self.fill(line.says));
        }
    }
}

/// `*` is anything, `?` one character.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let mut reachable = vec![false; text.len() + 1];
    reachable[0] = true;
    for wanted in pattern {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = match wanted {
                '*' => reachable[at] || (at > 0 && next[at - 1]),
                _ => at > 0 && reachable[at - 1] && (wanted == '?' || wanted == text[at - 1]),
            };
        }
        reachable = next;
    }
    reachable[text.len()]
}

fn script(host: &Host) -> Script<'_> {
    let head = "apiVersion: ignite.weave.works/v1alpha3\nkind: VM\n";
    let path = |path: std::path::PathBuf| path.to_str().expect("UTF-8").to_owned();
    let kernel = host.does(["kernel", "ls", "-o", "name"]).succeeds().line();
    let pair = host.path("key");
    std::fs::write(host.path("key.pub"), "ssh-ed25519 AAAA me\n").expect("a key");
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let named = format!("{head}metadata: {{name: named}}\nspec: {{image: {{oci: \"{}\"}}}}\n", busybox());
    let config = "apiVersion: ignite.weave.works/v1alpha4\nkind: Configuration\nspec: {idPrefix: conf, vmDefaults: {memory: 200MB}}\n";
    let manifest = format!("{head}metadata: {{name: of-the-manifest}}\nspec: {{cpus: 4, memory: 2GB}}\n");
    let values = vec![
        ("redis", redis().to_owned()),
        ("dir", path(host.path(""))),
        ("image", busybox().to_owned()),
        ("package", path(ignite_e2e::images::kernel_package().to_owned())),
        ("kernel", kernel),
        ("file", path(host.file("a", "content\n"))),
        ("disk", path(host.path("disk.img"))),
        ("named", path(host.file("named.yaml", named))),
        ("manifest", path(host.file("vm.yaml", manifest))),
        ("config", path(host.file("config.yaml", config))),
        ("key", path(pair)),
        ("port", port.to_string()),
    ];
    Script { host, values }
}

#[allow(clippy::print_stderr, reason = "a failing test's own words")]
pub fn every_line_without_a_boot_does_what_it_did() {
    let host = Host::new();
    let script = script(&host);
    let wrong = WITHOUT_A_BOOT.iter().filter(|line| {
        // Each line is judged; what is wrong is printed by the check.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| script.check(line)))
            .inspect_err(|error| eprintln!("{}", error.downcast_ref::<String>().map_or("", String::as_str)))
            .is_err()
    });
    let wrong: Vec<&str> = wrong.map(|line| line.typed).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(host.vm_ids().is_empty());
}

pub fn every_line_with_a_vm_does_what_it_did() {
    let host = Host::new();
    let script = script(&host);
    WITH_A_VM.iter().for_each(|line| script.check(line));
    // As scripts write it: ignite rm -f $(ignite ps -aq)
    let ids = host.does(["ps", "-aq"]).succeeds().text();
    host.does(["rm", "-f"].into_iter().chain(ids.split_whitespace())).succeeds();
    host.assert_nothing_left();
}

/// Every command and flag of the list stands in a line above, under its own name or an alias.
pub fn every_command_and_flag_of_the_list_is_typed() {
    let mut missing = BTreeSet::new();
    for entry in LIST.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (flags, words): (Vec<_>, Vec<_>) = entry.split(' ').partition(|word| word.starts_with("--"));
        let names: Vec<&str> = words.into_iter().filter(|word| *word != "=").collect();
        let command = names.first().copied().unwrap_or_default();
        for flag in flags {
            let (long, short) = flag.trim_end_matches('~').split_once('/').unwrap_or((flag.trim_end_matches('~'), ""));
            let has_flag = |line: &Line| {
                let typed = line.typed.split_whitespace();
                typed.map(|word| word.split('=').next().unwrap_or_default()).any(|word| word == long || word == short)
            };
            // The group `vm` has the very commands that are above it.
            let own = if command == "vm" && names.len() > 1 { &names[1..] } else { &names[..] };
            let is_of_command = |line: &Line| line.typed.split(' ').any(|word| own.contains(&word));
            if !all().any(|line| is_of_command(line) && has_flag(line)) {
                missing.insert(format!("{command} {flag}"));
            }
        }
        if command != "ignite" && !all().any(|line| line.typed.split(' ').any(|word| word == command)) {
            missing.insert(command.to_owned());
        }
    }
    // Volumes have tests of their own: a VM with one needs a disk.
    missing.retain(|entry| !entry.contains("--volumes"));
    assert!(missing.is_empty(), "never typed: {missing:?}");
}

fn all() -> impl Iterator<Item = &'static Line> {
    WITHOUT_A_BOOT.iter().chain(WITH_A_VM)
}
