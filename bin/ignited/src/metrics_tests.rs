//! What `promtool check metrics` would say, whether the names are documented, and what a scrape costs.

#![allow(clippy::print_stdout, reason = "what is measured is told")]

use super::*;
use ignite_api::{ObjectMeta, Phase, Uid, Vm, VmSpec};
use ignite_reconcile::{Action, Controller, Limits, Options, Owner};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/grafana/ignited.json");

struct World {
    dir: tempfile::TempDir,
    shared: Arc<Shared>,
    metrics: Metrics,
}

fn world(vms: u64) -> World {
    let dir = tempfile::tempdir().unwrap();
    let settings = ignite_engine::Settings {
        data_dir: dir.path().join("data"),
        run_dir: dir.path().join("run"),
        spawn_program: PathBuf::new(),
        is_root: false,
        pull: Default::default(),
        firecracker: None,
        releases_url: None,
        program_dirs: Vec::new(),
        secrets_dir: PathBuf::new(),
        boot_dir: PathBuf::new(),
        modules_dir: PathBuf::new(),
    };
    let engine = Engine::open(settings).unwrap();
    let shared = Arc::new(Shared::new(["shop".to_owned()].into_iter()));
    let metrics = Metrics::new(engine, shared.clone());
    let world = World { dir, shared, metrics };
    world.shared.set_vms((1..=vms).map(|number| world.live_vm(number)).collect());
    world
}

impl World {
    /// A VM whose monitor is this very process: what is read of it is real.
    fn live_vm(&self, number: u64) -> Vm {
        let uid = Uid::from_bytes(number.to_be_bytes());
        let run = self.dir.path().join("run/vm").join(uid.as_str());
        std::fs::create_dir_all(&run).unwrap();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let start: u64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
        let record = serde_json::json!({"pid": std::process::id(), "start_ticks": start});
        std::fs::write(run.join("vmm.json"), record.to_string()).unwrap();
        std::fs::write(run.join("vmm-counters.json"), r#"{"diskReads": 5}"#).unwrap();
        let data = self.dir.path().join("data/vm").join(uid.as_str());
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("disk.ext4"), [1; 4096]).unwrap();
        let metadata = ObjectMeta { name: format!("vm-\"{number}\"\n"), uid: Some(uid), ..ObjectMeta::default() };
        let mut vm = Vm::new(metadata, VmSpec::default());
        vm.status.phase = Phase::Running;
        vm.status.health = Some(ignite_api::health::HealthStatus::default());
        vm.status.network = Some(ignite_api::vm::NetworkStatus { plugin: "cni".to_owned(), ip_addresses: Vec::new() });
        vm
    }

    /// Something of everything.
    fn lived(&self) {
        let options = Options {
            owner: Owner::ignited("shop"),
            stack: None,
            is_adopting: false,
            is_pruning: true,
            is_healing: false,
        };
        let controller = Controller::new(options, Limits { concurrency: 1 });
        self.metrics.look_done("shop", Duration::from_millis(3), controller.status());
        self.metrics.look_failed("shop");
        let step = Step { name: "a".to_owned(), uid: None, phase: None, origin: None, action: Action::Start };
        self.metrics.step_done("shop", &step, &Ok(()));
        let mut report = SetReport { name: "shop".to_owned(), ..SetReport::default() };
        report.source.commit = Some("0123".to_owned());
        report.source.last_sync = Some(jiff::Timestamp::UNIX_EPOCH);
        self.metrics.source_read(&report);
        report.source.commit = Some("4567".to_owned());
        self.metrics.source_read(&report);
    }
}

/// Families by name: type, unit, and samples.
#[derive(Default)]
struct FamilyText<'a> {
    help: Option<&'a str>,
    kind: Option<&'a str>,
    unit: Option<&'a str>,
    samples: Vec<(&'a str, &'a str, f64)>,
}

/// Reads OpenMetrics strictly: a line that is not understood is a failure.
fn parse(text: &str) -> BTreeMap<&str, FamilyText<'_>> {
    let mut families: BTreeMap<&str, FamilyText<'_>> = BTreeMap::new();
    let mut current = "";
    let mut closed: BTreeSet<&str> = BTreeSet::new();
    assert!(text.ends_with("# EOF\n"), "it ends as OpenMetrics wants");
    for line in text.lines().take_while(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# ") {
            let (what, rest) = rest.split_once(' ').expect(line);
            let (name, value) = rest.split_once(' ').expect(line);
            if name != current {
                closed.insert(current);
                assert!(!closed.contains(name), "{name} is there in two places");
                current = name;
            }
            let family = families.entry(name).or_default();
            let slot = match what {
                "HELP" => &mut family.help,
                "TYPE" => &mut family.kind,
                "UNIT" => &mut family.unit,
                _ => panic!("{line}"),
            };
            assert!(slot.replace(value).is_none(), "twice: {line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        assert!(name.starts_with(current), "{line} is not below its family {current}");
        families.get_mut(current).expect(line).samples.push((name, labels, value.parse().expect(line)));
    }
    families
}

#[test]
fn the_metrics_are_as_promtool_wants_them() {
    let world = world(3);
    world.lived();
    let text = world.metrics.encode(Format::OpenMetrics);
    for (name, family) in parse(&text) {
        let kind = family.kind.unwrap_or_else(|| panic!("{name} has no type"));
        assert!(family.help.is_some_and(|help| help.len() > 10), "{name} has no help");
        assert!(!family.samples.is_empty(), "{name} is empty");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert!(["ignited_", "ignite_vm_", "process_"].iter().any(|prefix| name.starts_with(prefix)), "{name}");
        for unit in ["milliseconds", "minutes", "kilobytes", "megabytes", "percent"] {
            assert!(!name.contains(unit), "{name}: base units only");
        }
        if let Some(unit) = family.unit {
            assert!(name.ends_with(unit), "{name} does not end with its unit {unit}");
        }
        assert!(!name.ends_with("_total") && !name.ends_with("_count"), "{name}: that is for samples");
        let mut series = BTreeSet::new();
        for (sample, labels, value) in &family.samples {
            assert!(series.insert((sample, labels)), "twice: {sample}{labels}");
            assert!(value.is_finite() && *value >= 0.0, "{sample} {value}");
            let suffix = &sample[name.len()..];
            let allowed: &[&str] = match kind {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                kind => panic!("{name}: {kind}"),
            };
            assert!(allowed.contains(&suffix), "{sample} of the {kind} {name}");
        }
        if kind == "histogram" {
            assert!(family.samples.iter().any(|(_, labels, _)| labels.contains("le=\"+Inf\"")), "{name}");
        }
    }
    assert_eq!(text.matches("ignited_sync_commit_info{").count(), 1, "a set is at one commit: {text}");
    assert!(text.contains(r#"name="vm-\"1\"\n""#), "labels are escaped");
}

#[test]
fn promtool_itself_has_nothing_to_say() {
    let Some(program) = std::env::var_os("IGNITE_TEST_PROMTOOL").filter(|program| !program.is_empty()) else {
        println!("skipped: promtool is not given (IGNITE_TEST_PROMTOOL; scripts/fetch-promtool brings it)");
        return;
    };
    let world = world(3);
    world.lived();
    let mut lint = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    lint.stdin.take().unwrap().write_all(world.metrics.encode(Format::Text).as_bytes()).unwrap();
    let said = lint.wait_with_output().unwrap();
    let text = [said.stdout, said.stderr].concat();
    assert!(said.status.success() && text.is_empty(), "{}", String::from_utf8_lossy(&text));
}

#[test]
fn every_name_is_documented_and_every_documented_name_is_there() {
    let world = world(1);
    world.lived();
    let text = world.metrics.encode(Format::OpenMetrics);
    let told: BTreeSet<&str> = parse(&text).into_keys().collect();
    let page = std::fs::read_to_string(DOCUMENT).unwrap();
    let documented: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name)).collect();
    // Those of the operator are its crate's.
    assert_eq!(told, documented.into_iter().filter(|name| !name.starts_with("ignite_operator_")).collect());
    let dashboard = std::fs::read_to_string(Path::new(DASHBOARD)).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let mut asked = 0;
    for panel in parsed["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let is_name = |word: &&str| word.starts_with("ignite") || word.starts_with("process_");
            for word in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(is_name) {
                let family = ["_total", "_bucket", "_sum", "_count"].iter().find_map(|s| word.strip_suffix(s));
                assert!(told.contains(family.unwrap_or(word)), "{word} of the dashboard");
                asked += 1;
            }
        }
    }
    assert!(asked > 8, "{asked}");
}

#[test]
fn a_scrape_of_a_hundred_vms_is_measured() {
    let world = world(100);
    world.lived();
    let _warm = world.metrics.encode(Format::OpenMetrics);
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let start = Instant::now();
            let text = world.metrics.encode(Format::OpenMetrics);
            assert_eq!(text.matches("ignite_vm_cpu_seconds_total{").count(), 100);
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("measured: a scrape of 100 VMs: median {:.1} ms, longest {:.1} ms of 21", ms(times[10]), ms(times[20]));
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
