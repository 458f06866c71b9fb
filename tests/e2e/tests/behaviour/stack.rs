//! Stacks and large sets: order, healing, and what five hundred manifests cost.

#![allow(clippy::print_stdout, reason = "what is measured is told")]

use ignite_e2e::git::Origin;
use ignite_e2e::images::{busybox, redis};
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

/// A web server that asks an application that counts in redis: all by the names of their VMs.
fn shop() -> String {
    let (busybox, redis) = (busybox(), redis());
    format!(
        r#"apiVersion: ignite.weave.works/v1alpha4
kind: VM
metadata: {{name: web}}
spec:
  image: {{oci: "{busybox}"}}
  memory: 128MB
  diskSize: 64MB
  network: {{mode: cni, ports: [{{hostPort: 8080, vmPort: 80}}]}}
  dependsOn: [{{name: app, ready: {{tcpSocket: {{port: 8000}}}}}}]
  env: [{{name: UPSTREAM, value: "app 8000"}}]
  args:
    - sh
    - -c
    - |
      mkdir -p /www/cgi-bin
      printf '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\n"\nprintf "GET /cgi-bin/count HTTP/1.0\\r\\n\\r\\n" | nc -w 20 %s\n' "$UPSTREAM" > /www/cgi-bin/page
      chmod +x /www/cgi-bin/page
      exec httpd -f -p 80 -h /www
---
apiVersion: ignite.weave.works/v1alpha4
kind: VM
metadata: {{name: app}}
spec:
  image: {{oci: "{busybox}"}}
  memory: 128MB
  diskSize: 64MB
  network: {{mode: cni}}
  dependsOn: [{{name: db, ready: {{exec: {{command: [redis-cli, ping]}}}}}}]
  args:
    - sh
    - -c
    - |
      mkdir -p /www/cgi-bin
      printf '#!/bin/sh\nprintf "Content-Type: text/plain\\n\\n"\nprintf "INCR hits\\r\\nQUIT\\r\\n" | nc -w 20 db 6379\n' > /www/cgi-bin/count
      chmod +x /www/cgi-bin/count
      exec httpd -f -p 8000 -h /www
---
apiVersion: ignite.weave.works/v1alpha4
kind: VM
metadata: {{name: db}}
spec:
  image: {{oci: "{redis}"}}
  memory: 192MB
  diskSize: 128MB
  network: {{mode: cni}}
"#
    )
}

pub fn a_stack_from_git_starts_in_order_answers_and_heals() -> Report {
    let throwaway = Throwaway::new(Iptables::Nft)?;
    let host = Host::on(&throwaway);
    let origin = Origin::empty(host.path("git"));
    origin.commit(&[("shop.yaml", &shop())]);
    let url = format!("file://{}", origin.path().display());
    let pushed = Instant::now();
    let mut daemon =
        host.ignited(["gitops", &url, "--branch", "main", "--name", "shop", "--interval", "300ms"]).start();
    // redis answers `:N` to INCR, through two web servers.
    let count = || {
        let ask = throwaway.call(["busybox", "nc", "-w", "30", "127.0.0.1", "8080"]);
        let answer = ask.stdin("GET /cgi-bin/page HTTP/1.0\r\n\r\n").within(QUICK).finish().text();
        answer.lines().find_map(|line| line.trim().strip_prefix(':')?.parse::<u64>().ok())
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
    until("redis to be back", BOOT, || (started_at(&host, "db")? > db.0).then_some(()));
    until("the page to answer again", BOOT, count);
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
