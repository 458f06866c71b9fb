//! Precedence of settings, as a table.

use super::*;

fn host(env: &[(&str, &str)]) -> Host {
    Host {
        env: env.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect(),
        uid: 1000,
        program: "/nowhere/ignite".into(),
        working_dir: "/cwd".into(),
        temp_dir: "/nowhere".into(),
        system_config: "/nowhere/config.yaml".into(),
    }
}

const USER: [(&str, &str); 2] = [("HOME", "/home/u"), ("XDG_RUNTIME_DIR", "/run/user/1000")];

fn with(extra: &[(&str, &str)]) -> Host {
    host(&[&USER, extra].concat())
}

fn dirs(flags: &GlobalFlags, host: &Host) -> (String, String) {
    let settings = resolve(flags, host).unwrap();
    (settings.data_dir.display().to_string(), settings.run_dir.display().to_string())
}

#[test]
fn directories_follow_flag_then_environment_then_user() {
    let none = GlobalFlags::default();
    let data = GlobalFlags { data_dir: Some("d".into()), ..GlobalFlags::default() };
    let both = GlobalFlags { run_dir: Some("/r".into()), ..data.clone() };
    for (flags, host, data, run) in [
        (&none, with(&[]), "/home/u/.local/share/ignite", "/run/user/1000/ignite"),
        (&none, with(&[("XDG_DATA_HOME", "/x")]), "/x/ignite", "/run/user/1000/ignite"),
        (&none, with(&[("XDG_DATA_HOME", "relative")]), "/home/u/.local/share/ignite", "/run/user/1000/ignite"),
        (&none, with(&[("IGNITE_DATA_DIR", "/e")]), "/e", "/e/run"),
        (&none, with(&[("IGNITE_DATA_DIR", "/e"), ("IGNITE_RUN_DIR", "/er")]), "/e", "/er"),
        (&data, with(&[("IGNITE_DATA_DIR", "/e")]), "/cwd/d", "/cwd/d/run"),
        (&both, with(&[("IGNITE_RUN_DIR", "/er")]), "/cwd/d", "/r"),
        (&none, Host { uid: 0, ..with(&[]) }, "/var/lib/ignite", "/run/ignite"),
        (&none, Host { uid: 0, ..with(&[("IGNITE_DATA_DIR", "")]) }, "/var/lib/ignite", "/run/ignite"),
    ] {
        assert_eq!(dirs(flags, &host), (data.to_owned(), run.to_owned()));
    }
}

#[test]
fn a_data_directory_too_deep_for_sockets_gets_a_short_run_directory_of_its_own() {
    let deep = format!("/{}", "deep/".repeat(20));
    let flags = GlobalFlags { data_dir: Some(deep.into()), ..GlobalFlags::default() };
    let (_, run) = dirs(&flags, &with(&[]));
    let name = run.strip_prefix("/run/user/1000/ignite/d").expect("below the default");
    assert_eq!(name.len(), 16);
    let other = GlobalFlags { data_dir: Some(format!("/{}", "deeq/".repeat(20)).into()), ..GlobalFlags::default() };
    assert_ne!(dirs(&other, &with(&[])).1, run);
}

#[test]
fn a_run_directory_too_long_for_sockets_is_refused() {
    let flags = GlobalFlags { run_dir: Some("/r".repeat(40).into()), ..GlobalFlags::default() };
    assert!(resolve(&flags, &with(&[])).unwrap_err().to_string().contains("too long"));
}

#[test]
fn without_a_runtime_directory_a_private_one_is_made_and_checked() {
    use std::os::unix::fs::PermissionsExt;
    let temp = tempfile::tempdir().unwrap();
    let uid = rustix::process::geteuid().as_raw();
    let host = Host { uid, temp_dir: temp.path().into(), ..host(&[("HOME", "/home/u")]) };
    let made = private_temp_dir(&host).unwrap();
    assert_eq!(made, temp.path().join(format!("ignite-{uid}")));
    assert_eq!(private_temp_dir(&host).unwrap(), made, "the second time it is there");
    std::fs::set_permissions(&made, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(private_temp_dir(&host).is_err(), "others could have put something in");
    std::fs::remove_dir(&made).unwrap();
    std::os::unix::fs::symlink("/etc", &made).unwrap();
    assert!(private_temp_dir(&host).is_err(), "a link of somebody else's");
}

#[test]
fn the_configuration_file_is_below_environment_and_flags() {
    let temp = tempfile::tempdir().unwrap();
    let config = temp.path().join("config.yaml");
    let text = "apiVersion: ignite.weave.works/v1alpha4\nkind: Configuration\nspec:\n  networkPlugin: none\n  \
                registryConfigDir: /c\n  vmDefaults: {memory: 2GB, cpus: 2, vmm: qemu}\n";
    std::fs::write(&config, text).unwrap();
    let none = GlobalFlags::default();
    let base = Host { system_config: config, ..with(&[]) };

    let settings = resolve(&none, &base).unwrap();
    assert_eq!(settings.vm_defaults.cpus, 2);
    assert_eq!(settings.vm_defaults.disk_size, ignite_api::Size::gib(4), "what it leaves out keeps its default");
    assert_eq!(settings.vm_defaults.network.mode.as_deref(), Some("none"));
    assert_eq!(settings.pull.docker_config_dir, Some("/c".into()));

    let mut env = base.clone();
    env.env.insert("IGNITE_NETWORK".into(), "user".into());
    env.env.insert("IGNITE_VMM".into(), "firecracker".into());
    env.env.insert("IGNITE_REGISTRY_CONFIG_DIR".into(), "/e".into());
    let settings = resolve(&none, &env).unwrap();
    let overrides = VmOverrides { network: Some("user".into()), vmm: Some("firecracker".into()), kernel: None };
    assert_eq!(settings.vm_overrides, overrides);
    assert_eq!(settings.pull.docker_config_dir, Some("/e".into()));

    let flags = GlobalFlags { registry_config_dir: Some("/f".into()), ..GlobalFlags::default() };
    assert_eq!(resolve(&flags, &env).unwrap().pull.docker_config_dir, Some("/f".into()));
}

#[test]
fn a_configuration_file_that_is_named_must_be_there_and_right() {
    let flags = GlobalFlags { ignite_config: Some("/nowhere/c.yaml".into()), ..GlobalFlags::default() };
    assert!(resolve(&flags, &with(&[])).is_err());
    let temp = tempfile::tempdir().unwrap();
    let config = temp.path().join("c.yaml");
    std::fs::write(&config, "apiVersion: ignite.weave.works/v1alpha4\nkind: Configuration\nspec: {runtim: docker}\n")
        .unwrap();
    let flags = GlobalFlags { ignite_config: Some(config), ..GlobalFlags::default() };
    let error = format!("{:#}", resolve(&flags, &with(&[])).unwrap_err());
    assert!(error.contains("runtim"), "{error}");
}

#[test]
fn values_of_a_configuration_are_checked_and_weave_ignite_s_are_known() {
    let temp = tempfile::tempdir().unwrap();
    let config = temp.path().join("c.yaml");
    let resolve = |spec: &str| {
        let text = format!("apiVersion: ignite.weave.works/v1alpha4\nkind: Configuration\nspec: {{{spec}}}\n");
        std::fs::write(&config, text).unwrap();
        resolve(&GlobalFlags { ignite_config: Some(config.clone()), ..GlobalFlags::default() }, &with(&[]))
    };
    let error = |spec| format!("{:#}", resolve(spec).unwrap_err());
    assert!(error("runtime: podman").contains("must be registry, containerd or docker"));
    assert!(error("idPrefix: Up").contains("spec.idPrefix"));
    let settings = resolve("runtime: docker, networkPlugin: docker-bridge, idPrefix: lab").unwrap();
    assert_eq!((settings.runtime, settings.id_prefix.as_deref()), (Runtime::Docker, Some("lab")));
    assert_eq!(settings.vm_defaults.network.mode.as_deref(), Some("docker-bridge"));
}

#[test]
fn lists_and_levels_come_from_flags_or_environment() {
    let none = GlobalFlags::default();
    let env = with(&[("IGNITE_PLAIN_HTTP", "a:1, b:2,"), ("IGNITE_LOG_LEVEL", "DEBUG"), ("IGNITE_QUIET", "1")]);
    let settings = resolve(&none, &env).unwrap();
    assert_eq!(settings.pull.plain_http_hosts, ["a:1", "b:2"]);
    assert_eq!(settings.log_level, LevelFilter::DEBUG);
    assert!(settings.quiet);
    let flags =
        GlobalFlags { plain_http: vec!["c:3".into()], log_level: Some("error".into()), ..GlobalFlags::default() };
    let settings = resolve(&flags, &env).unwrap();
    assert_eq!(settings.pull.plain_http_hosts, ["c:3"]);
    assert_eq!(settings.log_level, LevelFilter::ERROR);
    assert!(!resolve(&none, &with(&[("IGNITE_QUIET", "0")])).unwrap().quiet);
    assert!(resolve(&none, &with(&[("IGNITE_LOG_LEVEL", "loud")])).is_err());
}

#[test]
fn the_supervisor_is_found_beside_us_then_in_path() {
    let temp = tempfile::tempdir().unwrap();
    let beside = temp.path().join(SPAWN_PROGRAM);
    let in_path = with(&[("PATH", temp.path().to_str().unwrap())]);
    assert_eq!(find_program(SPAWN_PROGRAM, &in_path), PathBuf::from(SPAWN_PROGRAM));
    std::fs::write(&beside, "").unwrap();
    assert_eq!(find_program(SPAWN_PROGRAM, &in_path), beside);
    let host = Host { program: temp.path().join("ignite"), ..with(&[]) };
    assert_eq!(find_program(SPAWN_PROGRAM, &host), beside);
}
