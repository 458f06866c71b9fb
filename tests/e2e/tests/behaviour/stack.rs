//! Stacks and large sets: order, healing, and what five hundred manifests cost.

#![allow(clippy::print_stdout, reason = "what is measured is told")]

use ignite_e2e::git::Origin;
use ignite_e2e::images::{busybox, nginx, python, redis};
use ignite_e2e::throwaway::Iptables;
use ignite_e2e::wait::{BOOT, QUICK, until};
use ignite_e2e::{Host, Report, Throwaway};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// How many manifests a large set has.
const MANY: usize = 500;

/// nginx before an application that counts in redis: they find each other by the names of their VMs.
fn shop() -> Vec<(&'static str, String)> {
    [
        ("web.yaml", include_str!("../../stacks/shop/web.yaml"), "@nginx@", nginx()),
        ("app.yaml", include_str!("../../stacks/shop/app.yaml"), "@python@", python()),
        ("db.yaml", include_str!("../../stacks/shop/db.yaml"), "@redis@", redis()),
    ]
    .map(|(name, text, placeholder, image)| (name, text.replace(placeholder, image)))
    .to_vec()
}

pub fn a_stack_from_git_starts_in_order_answers_and_heals() -> Report {
    let throwaway = Throwaway::new(Iptables::Nft)?;
    let host = Host::on(&throwaway);
    let origin = Origin::empty(host.path("git"));
    let files = shop();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    origin.commit(&files);
    let url = format!("file://{}", origin.path().display());
    let pushed = Instant::now();
    let mut daemon = host
        .ignited(["gitops", &url, "--branch", "main", "--name", "shop", "--interval", "300ms"])
        // What dies is seen, not found at the next look.
        .args(["--resync", "86400"])
        .start();
    let count = || {
        // Both directions stay open until the answer is there: to nginx, half of a connection closed is a client gone.
        let ask = "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3";
        let answer = throwaway.call(["bash", "-c", ask]).within(QUICK).finish().text();
        answer.lines().find_map(|line| line.trim().strip_prefix("visitor ")?.parse::<u64>().ok())
    };
    let first = until("an answer through all three", BOOT, count);
    println!("measured: a stack of three VMs from Git to its first answer: {:.1} s", pushed.elapsed().as_secs_f64());
    assert!(until("another", BOOT, count) > first);
    let started = |name: &str| -> (String, String) {
        let vm: Value = host.does(["inspect", name]).succeeds().json();
        let time = vm["status"]["startTime"].as_str().expect("a start").to_owned();
        (time, vm["metadata"]["uid"].as_str().expect("a uid").to_owned())
    };
    let (db, app, web) = (started("db"), started("app"), started("web"));
    assert!(db.0 < app.0 && app.0 < web.0, "{db:?} {app:?} {web:?}");
    host.does(["stack", "ps", "shop"]).succeeds().says("web").says("app").says("db");
    host.does(["stack", "down", "shop"]).fails().complains("is kept by ignited/shop");

    // redis dies: it comes back, and the page answers again.
    host.ignite(["kill", "db"]).finish().succeeds();
    let killed = Instant::now();
    until("redis to be back", BOOT, || (started_at(&host, "db")? > db.0).then_some(()));
    println!("measured: redis killed, back: {:.1} s", killed.elapsed().as_secs_f64());
    until("the page to answer again", BOOT, count);
    println!("measured: redis killed to the stack's next answer: {:.1} s", killed.elapsed().as_secs_f64());
    assert_eq!((started("app"), started("web")), (app, web), "the others went on");

    daemon.signal(Signal::TERM);
    daemon.finish().succeeds();
    host.ignite(["rm", "-f", "web", "app", "db"]).finish().succeeds();
    throwaway.assert_nothing_left();
    Ok(())
}

/// Times as they are written sort as they passed.
fn started_at(host: &Host, name: &str) -> Option<String> {
    let vm: Value = serde_json::from_str(&host.does(["inspect", name]).text()).ok()?;
    (vm["status"]["phase"] == "Running").then(|| vm["status"]["startTime"].as_str().map(str::to_owned))?
}

/// VMs that are made and never started: what is measured is `ignited`, not the guests.
pub fn five_hundred_manifests_survive_a_kill_and_then_nothing_is_written() {
    let host = Host::new();
    for number in 0..MANY {
        let text = format!(
            "apiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata: {{name: vm-{number}}}\nspec: {{image: {{oci: \"{}\"}}, \
             diskSize: 16MB, network: {{mode: none}}}}\nstatus: {{running: false}}\n",
            busybox()
        );
        host.file(&format!("manifests/{:02}/{number}.yaml", number % 20), text);
    }
    let manifests = host.path("manifests");
    let planned = Instant::now();
    host.ignite(["diff", "-f"]).args([manifests.as_path()]).finish().exits(1);
    println!("measured: first plan of {MANY} manifests, all to be created: {} ms", planned.elapsed().as_millis());
    let start = || host.ignited(["daemon", "--resync", "1", "--manifests"]).args([manifests.as_path()]).start();
    let made = || -> BTreeMap<String, PathBuf> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(host.data_dir().join("vm")).into_iter().flatten().flatten() {
            // One that is being made is none yet.
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let text = fs::read_to_string(entry.path().join("metadata.json")).unwrap_or_default();
            if let Ok(vm) = serde_json::from_str::<Value>(&text) {
                let name = vm["metadata"]["name"].as_str().expect("a name").to_owned();
                assert!(found.insert(name, entry.path()).is_none(), "made twice");
            }
        }
        found
    };
    let creating = Instant::now();
    let daemon = start();
    until("the middle of the work", BOOT, || (made().len() > MANY / 5).then_some(()));
    daemon.kill_now();
    let before = made();
    assert!(before.len() < MANY, "killed too late to mean anything");
    let mut daemon = start();
    until("all VMs", BOOT, || host.ignited(["status"]).within(QUICK).finish().code.eq(&0).then_some(()));
    println!("measured: {MANY} VMs made, with a kill -9 in between: {:.1} s", creating.elapsed().as_secs_f64());
    let after = made();
    assert_eq!(after.len(), MANY);
    assert!(before.iter().all(|(name, path)| after.get(name) == Some(path)), "what was there before is still that");

    // Steady: looked at each second, and nothing written.
    std::thread::sleep(Duration::from_secs(1));
    let files = times(&host.data_dir());
    let cpu = cpu_ticks(daemon.pid());
    let watched = Instant::now();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(times(&host.data_dir()), files, "steady state writes nothing");
    let ticks = cpu_ticks(daemon.pid()) - cpu;
    let report = host.ignited(["status", "-o", "json"]).within(QUICK).finish().json();
    println!(
        "measured: steady state of {MANY}: a look takes {:.1} ms; {:.1} % of a processor at --resync 1; {} KiB resident",
        report[0]["lookMs"].as_f64().expect("a time"),
        ticks as f64 / watched.elapsed().as_secs_f64(),
        resident_kib(daemon.pid()),
    );
    daemon.signal(Signal::TERM);
    daemon.finish().succeeds();
}

/// Files of the host below a directory, with when they were written.
fn times(dir: &Path) -> BTreeMap<PathBuf, SystemTime> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let metadata = entry.metadata().expect("metadata");
            found.insert(entry.path(), metadata.modified().expect("a time"));
            if metadata.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    found
}

/// Hundredths of a second, as every Linux of ours counts.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}
