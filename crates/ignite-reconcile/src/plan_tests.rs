//! The table of what is done about a VM, and properties of whole plans.

use super::*;
use crate::load::load_text;
use ignite_api::VmSpec;
use ignite_api::health::HealthStatus;
use proptest::prelude::*;

const OWNER: &str = "ignited/web";

fn options() -> Options {
    Options { owner: Owner::parse(OWNER), stack: None, is_adopting: false, is_pruning: true, is_healing: false }
}

fn manifest(name: &str, spec: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata: {{name: {name}}}\nspec: {{image: {{oci: busybox}}{spec}}}\n{rest}\n"
    )
}

fn set(text: &str) -> WantedSet {
    let set = load_text("a.yaml", text.as_bytes(), &VmSpec::default());
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    set
}

/// A VM as the engine has made it from a wish.
fn made(wanted: &WantedVm, phase: Phase) -> Vm {
    let mut vm = wanted.marked(&Owner::parse(OWNER), None);
    let bytes = wanted.name().bytes().fold([7; 8], |mut bytes: [u8; 8], b| {
        bytes.rotate_left(1);
        bytes[0] ^= b;
        bytes
    });
    vm.metadata.uid = Some(Uid::from_bytes(bytes));
    vm.status.phase = phase;
    vm
}

fn word(action: &Action) -> String {
    match action {
        Action::Keep => "keep".into(),
        Action::Completed => "completed".into(),
        Action::Create(_) => "create".into(),
        Action::Start => "start".into(),
        Action::Stop => "stop".into(),
        Action::Heal => "heal".into(),
        Action::Change { effect, .. } => format!("{effect:?}").to_lowercase(),
        Action::Remove => "remove".into(),
        Action::Wait(_) => "wait".into(),
        Action::WaitForRemoval(_) => "wait-removal".into(),
        Action::Hold(_) => "hold".into(),
        Action::Refuse(_) => "refuse".into(),
        Action::Lacks(_) => "lacks".into(),
    }
}

/// Rows are phases; columns: to run, to rest, other memory, other image, other label, not wanted, file broken.
const TABLE: &str = "
              run    rest  memory   image     label   gone    broken
    absent    create create create  create    create  -       -
    Created   start  keep  update   recreate  update  remove  hold
    Starting  keep   stop  restart  recreate  update  remove  hold
    Running   keep   stop  restart  recreate  update  remove  hold
    Paused    keep   stop  restart  recreate  update  remove  hold
    Stopping  keep   keep  restart  recreate  update  remove  hold
    Stopped   start  keep  update   recreate  update  remove  hold
    Failed    start  keep  update   recreate  update  remove  hold
";

#[test]
fn every_phase_and_wish_has_its_entry_in_the_table() {
    let plain = set(&manifest("a", "", ""));
    let wishes = [
        ("run", plain.clone()),
        ("rest", set(&manifest("a", "", "status: {running: false}"))),
        ("memory", set(&manifest("a", ", memory: 1GB", ""))),
        ("image", set(&manifest("a", ", image: {oci: redis}", "").replacen("image: {oci: busybox}, ", "", 1))),
        ("label", set(&manifest("a", "", "").replace("{name: a}", "{name: a, labels: {tier: front}}"))),
        ("gone", WantedSet::default()),
        ("broken", WantedSet { broken_files: ["a.yaml".to_owned()].into(), ..WantedSet::default() }),
    ];
    let mut rows = TABLE.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).filter(|row| !row.is_empty());
    assert_eq!(rows.next().unwrap(), wishes.each_ref().map(|(name, _)| *name));
    for phase in std::iter::once(None).chain(Phase::ALL.map(Some)) {
        let row = rows.next().expect("a row per phase");
        assert_eq!(row[0], phase.map_or("absent".to_owned(), |phase| phase.to_string()));
        let found: Vec<Vm> = phase.map(|phase| made(&plain.vms[0], phase)).into_iter().collect();
        for ((name, wish), expected) in wishes.iter().zip(&row[1..]) {
            let steps = plan(wish, &found, &options(), &Ready::new());
            let words: Vec<_> = steps.iter().map(|step| word(&step.action)).collect();
            let expected: Vec<&str> = expected.split('-').filter(|word| !word.is_empty()).collect();
            assert_eq!(words, expected, "{phase:?} {name}");
        }
    }
    assert!(rows.next().is_none());
}

#[test]
fn only_what_is_ours_is_touched() {
    let wanted = set(&manifest("a", "", ""));
    let mine = made(&wanted.vms[0], Phase::Running);
    let owned_by = |owner: Option<&str>| {
        let mut vm = mine.clone();
        vm.metadata.annotations.remove(crate::OWNER_ANNOTATION);
        vm.metadata.annotations.extend(owner.map(|owner| (crate::OWNER_ANNOTATION.to_owned(), owner.to_owned())));
        vm
    };
    for (owner, is_adopting, wanted_word, gone_words) in [
        (Some(OWNER), false, "keep", &["remove"][..]),
        (Some("apply"), false, "refuse", &[]),
        (Some("apply"), true, "refuse", &[]),
        (None, false, "refuse", &[]),
        (None, true, "update", &[]),
    ] {
        let found = [owned_by(owner)];
        let options = Options { is_adopting, ..options() };
        let words = |set: &WantedSet| {
            plan(set, &found, &options, &Ready::new()).iter().map(|s| word(&s.action)).collect::<Vec<_>>()
        };
        assert_eq!(words(&wanted), [wanted_word], "{owner:?} {is_adopting}");
        assert_eq!(words(&WantedSet::default()), gone_words, "{owner:?} {is_adopting}");
    }
    let found = [mine];
    let unpruned = Options { is_pruning: false, ..options() };
    assert_eq!(plan(&WantedSet::default(), &found, &unpruned, &Ready::new()), []);
    let unreadable = WantedSet { is_incomplete: true, ..WantedSet::default() };
    assert_eq!(word(&plan(&unreadable, &found, &options(), &Ready::new())[0].action), "hold");
}

#[test]
fn a_task_with_an_end_is_not_started_again_once_it_has_succeeded() {
    for (policy, exit_code, expected) in [
        ("", Some(0), "start"),
        (", restartPolicy: always", Some(0), "start"),
        (", restartPolicy: on-failure", Some(0), "completed"),
        (", restartPolicy: on-failure", Some(1), "start"),
        (", restartPolicy: on-failure", None, "start"),
    ] {
        let wanted = set(&manifest("a", policy, ""));
        let mut vm = made(&wanted.vms[0], Phase::Stopped);
        vm.status.exit_code = exit_code;
        let steps = plan(&wanted, &[vm], &options(), &Ready::new());
        assert_eq!(word(&steps[0].action), expected, "{policy} {exit_code:?}");
    }
}

#[test]
fn a_uid_names_the_vm() {
    let text = |uid: &str, name: &str| manifest(name, "", "").replace("{name: ", &format!("{{uid: {uid}, name: "));
    let wanted = set(&text("0123456789abcdef", "a"));
    let mut vm = made(&wanted.vms[0], Phase::Running);
    vm.metadata.uid = wanted.vms[0].vm.metadata.uid.clone();
    let words = |set: &WantedSet| word(&plan(set, std::slice::from_ref(&vm), &options(), &Ready::new())[0].action);
    assert_eq!(words(&wanted), "keep");
    assert_eq!(words(&set(&text("ffffffffffffffff", "a"))), "recreate");
    assert_eq!(words(&set(&text("0123456789abcdef", "b"))), "refuse");
    assert_eq!(words(&set(&manifest("a", "", ""))), "keep");
}

fn with_health(mut vm: Vm, state: Option<Health>) -> Vm {
    vm.status.health = state.map(|state| HealthStatus { state, ..HealthStatus::default() });
    vm
}

#[test]
fn an_unhealthy_vm_is_started_again_where_its_policy_asks_for_restarts() {
    let healing = Options { is_healing: true, ..options() };
    let (well, ill) = (Some(Health::Healthy), Some(Health::Unhealthy));
    for (policy, phase, health, is_healing, expected) in [
        ("no", Phase::Running, ill, true, "keep"),
        ("on-failure", Phase::Running, ill, true, "heal"),
        ("always", Phase::Running, ill, true, "heal"),
        ("unless-stopped", Phase::Running, ill, true, "heal"),
        ("always", Phase::Running, ill, false, "keep"),
        ("always", Phase::Running, well, true, "keep"),
        ("always", Phase::Running, Some(Health::Starting), true, "keep"),
        ("always", Phase::Running, None, true, "keep"),
        ("always", Phase::Paused, ill, true, "keep"),
        ("always", Phase::Stopping, ill, true, "keep"),
    ] {
        let wanted = set(&manifest("a", &format!(", restartPolicy: {policy}"), ""));
        let found = [with_health(made(&wanted.vms[0], phase), health)];
        let options = if is_healing { healing.clone() } else { options() };
        let steps = plan(&wanted, &found, &options, &Ready::new());
        assert_eq!(word(&steps[0].action), expected, "{policy} {phase} {health:?} {is_healing}");
    }
    // Stopped to be healed and not started yet: its end is not that of a task, whatever it exited with.
    let task = set(&manifest("a", ", restartPolicy: on-failure", ""));
    for (health, is_healing, expected) in [(ill, true, "start"), (ill, false, "completed"), (well, true, "completed")] {
        let mut vm = with_health(made(&task.vms[0], Phase::Stopped), health);
        vm.status.exit_code = Some(0);
        let options = if is_healing { healing.clone() } else { options() };
        assert_eq!(word(&plan(&task, &[vm], &options, &Ready::new())[0].action), expected, "{health:?} {is_healing}");
    }
    // What is wanted otherwise comes first, and who is to rest is stopped.
    let resting = set(&manifest("a", ", restartPolicy: always", "status: {running: false}"));
    let found = [with_health(made(&resting.vms[0], Phase::Running), ill)];
    assert_eq!(word(&plan(&resting, &found, &healing, &Ready::new())[0].action), "stop");
}

#[test]
fn a_vm_waits_for_the_health_of_what_it_depends_on() {
    for condition in ["healthy", "service_healthy"] {
        let app = manifest("app", &format!(", dependsOn: [{{name: db, condition: {condition}}}]"), "");
        let wanted = set(&[manifest("db", "", ""), app].concat());
        for (phase, health, expected) in [
            (Phase::Created, None, "wait"),
            (Phase::Running, Some(Health::Starting), "wait"),
            (Phase::Running, Some(Health::Unhealthy), "wait"),
            (Phase::Running, Some(Health::Healthy), "start"),
            // It would wait for ever.
            (Phase::Running, None, "refuse"),
        ] {
            let db = with_health(made(&wanted.vms[0], phase), health);
            let found = [db, made(&wanted.vms[1], Phase::Created)];
            let steps = plan(&wanted, &found, &options(), &Ready::new());
            assert_eq!(word(&steps[1].action), expected, "{condition} {phase} {health:?}");
        }
    }
}

#[test]
fn a_vm_waits_for_what_it_depends_on() {
    let text = [
        manifest("db", "", ""),
        manifest("app", ", dependsOn: [{name: db, ready: {tcpSocket: {port: 6379}}}]", ""),
        manifest("web", ", dependsOn: [{name: app}]", ""),
    ]
    .concat();
    let wanted = set(&text);
    let port = Readiness { tcp_socket: Some(ignite_api::depends_on::TcpSocketAction { port: 6379 }), exec: None };
    for (phases, is_db_ready, expected) in [
        ([Phase::Created; 3], false, ["start", "wait", "wait"]),
        ([Phase::Starting, Phase::Created, Phase::Created], false, ["keep", "wait", "wait"]),
        ([Phase::Running, Phase::Created, Phase::Created], false, ["keep", "wait", "wait"]),
        ([Phase::Running, Phase::Created, Phase::Created], true, ["keep", "start", "wait"]),
        ([Phase::Running, Phase::Starting, Phase::Created], true, ["keep", "keep", "wait"]),
        ([Phase::Running, Phase::Running, Phase::Created], true, ["keep", "keep", "start"]),
        ([Phase::Failed, Phase::Running, Phase::Running], false, ["start", "keep", "keep"]),
    ] {
        let found: Vec<Vm> = wanted.vms.iter().zip(phases).map(|(w, phase)| made(w, phase)).collect();
        let ready: Ready = is_db_ready.then(|| ("db".to_owned(), port.clone())).into_iter().collect();
        let words: Vec<_> = plan(&wanted, &found, &options(), &ready).iter().map(|s| word(&s.action)).collect();
        assert_eq!(words, expected, "{phases:?} {is_db_ready}");
    }
    // What is depended on goes last.
    let found: Vec<Vm> = wanted.vms.iter().map(|w| made(w, Phase::Running)).collect();
    let steps = plan(&WantedSet::default(), &found, &options(), &Ready::new());
    let words: Vec<_> = steps.iter().map(|s| (s.name.as_str(), word(&s.action))).collect();
    let expected = [("app", "wait-removal"), ("db", "wait-removal"), ("web", "remove")];
    assert_eq!(words, expected.map(|(name, word)| (name, word.to_owned())));
    let steps = plan(&WantedSet::default(), &found[..1], &options(), &Ready::new());
    assert_eq!(word(&steps[0].action), "remove");
}

fn any_phase() -> impl Strategy<Value = Option<Phase>> {
    prop_oneof![Just(None), prop::sample::select(&Phase::ALL[..]).prop_map(Some)]
}

proptest! {
    /// Whatever is found and wanted: one step per VM, none for a stranger, no removal of what is wanted.
    #[test]
    fn a_plan_has_one_step_per_vm(
        phases in prop::collection::vec((any_phase(), any::<bool>(), any::<bool>(), 0_u8..3), 1..12),
        is_incomplete: bool,
    ) {
        let names: Vec<String> = (0..phases.len()).map(|n| format!("vm-{n}")).collect();
        let all = set(&names.iter().map(|name| manifest(name, "", "")).collect::<String>());
        let mut wanted = WantedSet { is_incomplete, ..WantedSet::default() };
        let mut found = Vec::new();
        for (vm, (phase, is_wanted, is_changed, owner)) in all.vms.iter().zip(&phases) {
            if let Some(phase) = phase {
                let mut made = made(vm, *phase);
                match owner {
                    0 => {}
                    1 => drop(made.metadata.annotations.remove(crate::OWNER_ANNOTATION)),
                    _ => drop(made.metadata.annotations.insert(crate::OWNER_ANNOTATION.to_owned(), "x".to_owned())),
                }
                found.push(made);
            }
            if *is_wanted {
                let mut vm = vm.clone();
                vm.vm.spec.cpus += u32::from(*is_changed);
                wanted.vms.push(vm);
            }
        }
        let steps = plan(&wanted, &found, &options(), &Ready::new());
        let names: BTreeSet<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        prop_assert_eq!(names.len(), steps.len());
        for step in &steps {
            let is_wanted = wanted.find(&step.name).is_some();
            let there = found.iter().find(|vm| vm.metadata.name == step.name);
            let is_ours = there.is_none_or(|vm| owner_of(vm).is_some_and(|owner| owner.as_str() == OWNER));
            prop_assert!(is_ours || !step.action.is_work(), "{:?}", step);
            prop_assert!(!(is_wanted && step.action == Action::Remove), "{:?}", step);
            prop_assert!(!(is_incomplete && step.action == Action::Remove), "{:?}", step);
            prop_assert!(is_wanted || !matches!(step.action, Action::Create(_) | Action::Start), "{:?}", step);
        }
    }
}
