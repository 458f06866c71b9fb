//! The program as a script sees it: exit codes, and what goes to standard output and what to standard error.

use std::process::{Command, Output, Stdio};

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Host {
        Host { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ignite"));
        command.args(line.split_whitespace()).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("IGNITE_DATA_DIR", self.dir.path().join("data")).env("HOME", self.dir.path());
        command.env("IGNITE_RUN_DIR", self.dir.path().join("run")).stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(line).output().expect("the program runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (status.code().expect("it exits"), text(stdout), text(stderr))
    }
}

#[test]
fn help_and_version_are_data() {
    let host = Host::new();
    for line in ["", "--help", "-h", "help", "run --help", "--version", "version", "version -o json", "completion zsh"]
    {
        let (code, stdout, stderr) = host.run(line);
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
        assert!(!stdout.is_empty(), "{line}");
        assert!(!stdout.contains('\u{1b}'), "{line}: no colour without a terminal");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let host = Host::new();
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(host.run(&format!("manual {}", dir.path().display())).0, 0);
    for page in ["ignite.1", "ignite-run.1", "ignite-image-import.1"] {
        assert!(dir.path().join(page).is_file(), "{page}");
    }
}

#[test]
fn usage_errors_have_their_codes() {
    let host = Host::new();
    for (line, expected) in [
        ("rnu", 2),
        ("ps --bogus", 2),
        ("stop", 2),
        ("run", 125),
        ("run --cpus 99 busybox", 125),
        ("run -p 80 busybox", 125),
        ("vm run --bogus", 125),
        ("exec", 125),
        ("exec vm", 125),
        ("run -it busybox", 125),
        ("--log-level loud ps", 1),
    ] {
        let (code, stdout, stderr) = host.run(line);
        assert_eq!((code, stdout.as_str()), (expected, ""), "{line}: {stderr}");
        assert!(stderr.starts_with("error: "), "{line}: {stderr}");
    }
}

#[test]
fn a_terminal_for_input_that_is_none_is_refused_as_docker_does() {
    assert_eq!(Host::new().run("run -it busybox").2, "error: the input device is not a TTY\n");
}

#[test]
fn what_is_not_there_is_told_with_a_hint() {
    let host = Host::new();
    for (line, code) in
        [("stop nope", 1), ("rm -f nope", 1), ("inspect nope", 1), ("exec nope true", 125), ("logs nope", 1)]
    {
        let (found, stdout, stderr) = host.run(line);
        assert_eq!((found, stdout.as_str()), (code, ""), "{line}: {stderr}");
        assert_eq!(
            stderr, "error: can't find VM: no ID/name matches for \"nope\"\nhint: see what there is: ignite ps -a\n",
            "{line}"
        );
    }
}

#[test]
fn several_objects_are_all_tried() {
    let (code, stdout, stderr) = Host::new().run("rm a b");
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(stderr.matches("error: ").count(), 2, "{stderr}");
}

#[test]
fn empty_lists_are_a_header_or_nothing() {
    let host = Host::new();
    let header = "VM ID   IMAGE   KERNEL   SIZE   CPUS   MEMORY   CREATED   STATUS   IPS   PORTS   NAME\n";
    for (line, expected) in [
        ("ps", header),
        ("vm ls", header),
        ("ps -q", ""),
        ("ps -o json", "[]\n"),
        ("images", "IMAGE ID   NAME   CREATED   SIZE\n"),
        ("image ls -q", ""),
        ("kernels", "KERNEL ID   NAME   CREATED   SIZE   VERSION   DEFAULT\n"),
    ] {
        assert_eq!(host.run(line), (0, expected.to_owned(), String::new()), "{line}");
    }
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let host = Host::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = host.command("completion bash").stdout(writer).stderr(Stdio::piped()).output().expect("it runs");
    assert_eq!(output.status.code(), Some(141));
    assert!(output.stderr.is_empty());
}

#[test]
fn a_configuration_that_is_wrong_is_told_with_its_place() {
    let host = Host::new();
    let path = host.dir.path().join("config.yaml");
    std::fs::write(&path, "apiVersion: ignite.weave.works/v1alpha4\nkind: Configuration\nspec:\n  runtim: docker\n")
        .expect("a file");
    let (code, _, stderr) = host.run(&format!("--ignite-config {} ps", path.display()));
    assert_eq!(code, 1);
    assert!(
        stderr.contains("could not read configuration") && stderr.contains("line 4") && stderr.contains("runtim"),
        "{stderr}"
    );
}

/// An object store with two VMs that have ended, as the programs leave it.
fn host_with_vms() -> Host {
    let host = Host::new();
    for (uid, name, cpus) in [("599615df99804ae8", "my-vm", 2), ("699615df99804ae9", "my-vm2", 3)] {
        let dir = host.dir.path().join("data/vm").join(uid);
        std::fs::create_dir_all(&dir).expect("a directory");
        let object = format!(
            r#"{{"apiVersion":"ignite.weave.works/v1alpha4","kind":"VM",
                "metadata":{{"name":"{name}","uid":"{uid}","labels":{{"tier":"web"}}}},
                "spec":{{"image":{{"oci":"redis:7"}},"cpus":{cpus},"ssh":true}},
                "status":{{"running":false,"phase":"Stopped","exitCode":7,
                    "network":{{"plugin":"cni","ipAddresses":["10.61.0.2"]}}}}}}"#
        );
        std::fs::write(dir.join("metadata.json"), object).expect("a file");
    }
    host
}

#[test]
fn filters_and_templates_work_as_in_scripts_for_weave_ignite() {
    let host = host_with_vms();
    for (words, expected) in [
        (&["ps", "-a", "-f", "{{.ObjectMeta.Name}}=my-vm", "-t", "{{.ObjectMeta.UID}}"][..], "599615df99804ae8\n"),
        (&["ps", "-aq", "-f", "{{.Spec.CPUs}}!=3"], "599615df99804ae8\n"),
        (&["ps", "-f", "name=my-vm", "-t", "{{.Name}}"], ""),
        (
            &["vm", "ls", "--filter", "label=tier=web,name=~2", "--format", "{{.Name}}\\t{{.Spec.SSH}}"],
            "my-vm2\t{true }\n",
        ),
        (&["vm", "-f", "status=exited", "-f", "id=5", "-t", "{{.Spec.CPUs}} {{.Spec.Memory}}"], "2 512.0 MB\n"),
        (&["inspect", "vm", "my-vm", "-t", "{{.Status.Network.IPAddresses}}"], "10.61.0.2\n"),
        (
            &["inspect", "my-vm", "--template", "{{.Status.Phase}} {{.Status.ExitCode}} {{.Labels.nope}}"],
            "Stopped 7 <no value>\n",
        ),
        (&["image", "ls", "-f", "name=x", "-t", "{{.Name}}"], ""),
        (&["kernels", "--format", "{{.Status.Version}}"], ""),
    ] {
        let output = host.command("").args(words).output().expect("the program runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
            (Some(0), expected),
            "{words:?}"
        );
    }
}

#[test]
fn filters_and_templates_that_are_wrong_say_where() {
    let host = host_with_vms();
    for (words, expected) in [
        (
            &["ps", "-a", "-t", "{{.ObjectMeta.name}}"][..],
            "error: template, line 1, column 14: can't find field \"name\"\nhint: did you mean .Name?\n",
        ),
        (
            &["ps", "-f", "web"],
            "error: failed to extract keys-values from filter list [web]\n\
             hint: a filter is written like '{{.ObjectMeta.Name}}=my-vm,{{.Spec.CPUs}}!=3' or name=my-vm\n",
        ),
        (
            &["ps", "-a", "-f", "{{.Status.Runing}}=true"],
            "error: failed to apply filtering on VM, the filter might be incorrect\n  \
             caused by: template, line 1, column 10: can't find field \"Runing\"\nhint: did you mean .Running?\n",
        ),
        (&["inspect", "my-vm", "-t", "{{.Name"], "error: template, line 1, column 1: unclosed action: }} is missing\n"),
    ] {
        let output = host.command("").args(words).output().expect("the program runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), expected, "{words:?}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{words:?}");
    }
}

#[test]
fn lists_and_objects_have_the_same_forms() {
    let host = host_with_vms();
    let wide = "VM ID              IMAGE     KERNEL   SIZE     CPUS   MEMORY     CREATED     STATUS";
    let json = "\"apiVersion\": \"ignite.weave.works/v1alpha4\"";
    for (line, expected) in [
        ("inspect vm my-vm -o name", "my-vm\n"),
        ("inspect 5996 --output name", "my-vm\n"),
        ("inspect vm my-vm -o wide", wide),
        ("inspect vm my-vm -o wide", "ACCELERATOR   NETWORK   LABELS\n"),
        ("inspect vm my-vm -o table", "PORTS   NAME\n"),
        ("inspect vm my-vm", json),
        ("inspect VM my-vm -o json", "{\n  \"apiVersion\""),
        ("inspect vm my-vm -o yaml", "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\n"),
        ("inspect vm my-vm --format {{.Spec.CPUs}}", "2\n"),
        ("ps -a -o name", "my-vm\nmy-vm2\n"),
        ("vm -o wide", wide),
        ("ps -a --output json", json),
        ("vms ls -o yaml", "apiVersion: ignite.weave.works/v1alpha4"),
        ("ps -a --format {{.Name}}", "my-vm\nmy-vm2\n"),
        ("images -o name", ""),
        ("image ls -o json", "[]\n"),
        ("image ls -o yaml", "[]\n"),
        ("image ls -o wide", "ROLE   DISK   DIGEST\n"),
        ("kernel ls -o wide", "MODULES   SOURCE\n"),
        ("kernel ls -o name", ""),
        ("kernels --format {{.Name}}", ""),
    ] {
        let (code, stdout, stderr) = host.run(line);
        assert_eq!((code, stderr.as_str()), (0, ""), "{line}");
        assert!(stdout.contains(expected) && stdout.is_empty() == expected.is_empty(), "{line}: {stdout}");
    }
}

#[test]
fn the_supervisor_is_not_started_by_hand() {
    for words in [&["599615df99804ae8"][..], &["--log-level", "debug", "599615df99804ae8"], &[], &["--help"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_ignite-spawn")).args(words).output().expect("it runs");
        assert_eq!(output.status.code(), Some(125), "{words:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let explains = told.contains("usage: ignite-spawn") || told.contains("is not a descriptor");
        assert!(explains && output.stdout.is_empty(), "{words:?}: {told}");
    }
}

#[test]
fn a_version_is_read_as_from_weave_ignite() {
    let (_, json, _) = Host::new().run("version -o json");
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let version = &report["igniteVersion"];
    let go_arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(version["platform"], format!("linux/{go_arch}"));
    let short = Host::new().run("version -o short").1;
    assert_eq!(version["gitVersion"], short.trim_end());
}

#[test]
fn an_update_says_what_it_cannot_change_and_how_it_is_done() {
    let host = host_with_vms();
    for (flag, what, way) in [
        ("--size 8GB", "the size of its disk", "create one with it"),
        ("-s 8GB", "the size of its disk", "ignite cp"),
        ("--kernel-image x", "its kernel", "create one with it"),
        ("-p 80:80", "its ports", "ignite apply -f vm.yaml"),
        ("--cpus 2 -v a:/b", "its volumes", "ignite apply -f vm.yaml"),
        ("--network none", "its network", "ignite apply -f vm.yaml"),
        ("-e A=1", "its environment", "ignite apply -f vm.yaml"),
        ("--kernel-args quiet", "its kernel arguments", "ignite apply -f vm.yaml"),
    ] {
        let (code, stdout, stderr) = host.run(&format!("update {flag} my-vm"));
        assert_eq!((code, stdout.as_str()), (1, ""), "{flag}");
        assert!(stderr.contains(&format!("cannot change {what}\nhint: ")) && stderr.contains(way), "{flag}: {stderr}");
    }
    assert_eq!(host.run("update my-vm").0, 2, "something has to be changed");
    assert_eq!(host.run("inspect vm my-vm -t {{.Spec.CPUs}}").1, "2\n", "nothing is changed by halves");
    assert_eq!(host.run("update --cpus 3 my-vm").0, 0);
    assert_eq!(host.run("inspect vm my-vm -t {{.Spec.CPUs}}").1, "3\n");
    // The way that the hint names: what is inspected can be changed and applied.
    let manifest = host.dir.path().join("vm.yaml");
    let text = host.run("inspect vm my-vm -o yaml").1.replace("cpus: 3", "cpus: 4");
    std::fs::write(&manifest, text).expect("a file");
    let (_, plan, stderr) = host.run(&format!("diff -f {}", manifest.display()));
    assert!(plan.contains("my-vm") && plan.contains("spec.cpus"), "{plan}{stderr}");
}
