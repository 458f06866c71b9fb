//! From the kernel's hand-over to a configured VM: one straight line.

use crate::agent::{Agent, Part, wait_for_goodbye};
use crate::channel::Channel;
use crate::devices::{Uevents, find_channel};
use crate::error::{Doing, LaunchError, SetupError};
use crate::modules::{Modules, When};
use crate::root::{self, Disks, NEW_ROOT};
use crate::rooted::Rooted;
use crate::signals::Signals;
use crate::timeline::Timeline;
use crate::wire::{Incoming, Wire, uptime_ms};
use crate::{clock, console, identity, machine, network, shutdown, spawn, volumes};
use ignite_agent_protocol::message::{Configure, ExitingCause, GuestMessage, HostMessage, Role, ShutdownAction};
use rustix::mount::{MountFlags, mount};
use std::path::Path;

/// A step of the configuration that failed.
struct FailedStep {
    step: &'static str,
    error: SetupError,
}

/// Runs PID 1. Does not return.
pub fn run() -> ! {
    let mut timeline = Timeline::default();
    timeline.mark("kernel");
    let early = mount_early();
    console::open();
    if let Err(e) = early {
        console::error(&e.to_string());
    }
    match open_channel(&mut timeline) {
        Ok((signals, uevents, wire, modules)) => serve(signals, &uevents, wire, modules, timeline),
        Err(e) => {
            console::error(&e.to_string());
            shutdown::stop_machine(ShutdownAction::Poweroff, &Disks::default())
        }
    }
}

fn mount_early() -> Result<(), SetupError> {
    let kernel = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let table = [
        ("proc", "/proc", kernel, c""),
        ("sysfs", "/sys", kernel, c""),
        ("devtmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=0755"),
    ];
    for (kind, target, flags, options) in table {
        let doing = || format!("mount {kind}");
        std::fs::create_dir_all(target).doing(doing)?;
        match mount(kind, target, kind, flags, Some(options)) {
            // A kernel may mount devtmpfs itself.
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(e) => return Err(e).doing(doing),
        }
    }
    Ok(())
}

fn open_channel(timeline: &mut Timeline) -> Result<(Signals, Uevents, Wire, Modules), SetupError> {
    let signals = Signals::open().doing(|| "take over signals".to_owned())?;
    let uevents = Uevents::open()?;
    let mut modules = Modules::read().doing(|| "read the list of modules".to_owned())?;
    let failures = modules.load_first();
    timeline.mark("drivers");
    let device = match uevents.wait_for("the agent channel", find_channel) {
        Ok(device) => device,
        Err(e) => {
            failures.iter().for_each(|failure| console::error(failure));
            return Err(e);
        }
    };
    let channel = Channel::open(&device).doing(|| format!("open the agent channel {device:?}"))?;
    let mut wire = Wire::new(channel);
    wait_until(&signals, &mut wire, |wire, _| wire.try_connect().then_some(()));
    timeline.mark("channel");
    for failure in failures {
        wire.log("warn", &failure);
    }
    Ok((signals, uevents, wire, modules))
}

/// Handles events until `done` answers; it is shown every batch of frames, and asked once before any.
fn wait_until<T>(signals: &Signals, wire: &mut Wire, mut done: impl FnMut(&mut Wire, Vec<Incoming>) -> Option<T>) -> T {
    let mut incoming = Vec::new();
    loop {
        if let Some(answer) = done(wire, std::mem::take(&mut incoming)) {
            wire.flush();
            return answer;
        }
        wire.flush();
        let poll = |fd, events| libc::pollfd { fd, events, revents: 0 };
        let writing = if wire.has_outgoing() { libc::POLLOUT } else { 0 };
        let channel = if wire.waits_for_signal() { -1 } else { wire.channel().fd() };
        let mut polls = [poll(signals.fd(), libc::POLLIN), poll(channel, libc::POLLIN | writing)];
        // SAFETY: the entries live through the call.
        unsafe { libc::poll(polls.as_mut_ptr(), 2, -1) };
        while signals.next().is_some() {}
        if wire.is_connected() && polls[1].revents & !libc::POLLOUT != 0 {
            incoming = wire.receive();
        }
        if !wire.is_connected() {
            wire.try_connect();
        }
    }
}

/// Waits for `Configure`, becomes that VM, and stays.
fn serve(signals: Signals, uevents: &Uevents, mut wire: Wire, mut modules: Modules, mut timeline: Timeline) -> ! {
    let configure = wait_until(&signals, &mut wire, before_configure);
    timeline.mark("told");
    if matches!(configure.role, Role::Machine { .. }) {
        for failure in modules.load(|when| when == When::Machine) {
            wire.log("warn", &failure);
        }
    }
    // Asked for now because the files go with the initramfs; done when nothing else wants the CPU.
    modules.load_late();
    let mut disks = Disks::default();
    let became = become_vm(&configure, uevents, &mut disks, &mut timeline);
    wire.log("debug", &timeline.line());
    match became {
        Ok(()) => run_role(configure.role, wire, signals, disks),
        Err(failed) => fail(failed, &mut wire, &disks),
    }
}

/// Answers what comes before `Configure`. A snapshot is taken, and resumed, in this state.
fn before_configure(wire: &mut Wire, incoming: Vec<Incoming>) -> Option<Box<Configure>> {
    for incoming in incoming {
        match incoming {
            Incoming::Message(HostMessage::Configure(configure)) => return Some(configure),
            Incoming::Message(HostMessage::Ping { nonce }) => wire.send(&GuestMessage::Pong { nonce }),
            Incoming::Message(HostMessage::SetClock { unix_ns }) => {
                if let Err(e) = clock::set(unix_ns) {
                    wire.log("warn", &e.to_string());
                }
            }
            Incoming::Message(HostMessage::Shutdown { action, .. }) => {
                let cause = match action {
                    ShutdownAction::Poweroff => ExitingCause::Poweroff,
                    ShutdownAction::Reboot => ExitingCause::Reboot,
                };
                wire.send(&GuestMessage::Exiting { cause });
                wait_for_goodbye(wire);
                let action = shutdown::effective(action, Some(wire.channel()));
                shutdown::stop_machine(action, &Disks::default())
            }
            Incoming::Message(HostMessage::Goodbye | HostMessage::SetPeers { .. }) | Incoming::Frame(..) => {}
        }
    }
    None
}

/// Everything between `Configure` and the first process.
fn become_vm(
    configure: &Configure,
    uevents: &Uevents,
    disks: &mut Disks,
    timeline: &mut Timeline,
) -> Result<(), FailedStep> {
    let at = |step: &'static str| move |error: SetupError| FailedStep { step, error };
    let is_task = !matches!(configure.role, Role::Machine { .. });
    if configure.unix_ns != 0 {
        clock::set(configure.unix_ns).map_err(at("set the clock"))?;
    }
    if !configure.entropy.is_empty() {
        let invalid = || SetupError::Invalid { what: "entropy", value: "(hidden)".to_owned() };
        let entropy = identity::decode_hex(&configure.entropy).ok_or_else(invalid);
        entropy.and_then(|entropy| clock::add_entropy(&entropy)).map_err(at("add entropy"))?;
    }
    // Needs /sys where it is, so it comes before the move into the root.
    network::configure(&configure.interfaces, uevents).map_err(at("configure the network"))?;
    timeline.mark("network");
    *disks = root::mount_root(&configure.root, is_task, uevents).map_err(at("mount the root file system"))?;
    timeline.mark("root");
    let new_root = Rooted::open(Path::new(NEW_ROOT)).doing(|| "open the root".to_owned());
    let new_root = new_root.map_err(at("mount the root file system"))?;
    if let Some(modules) = &configure.modules {
        root::mount_modules(modules, &new_root, uevents).map_err(at("mount the kernel modules"))?;
        timeline.mark("modules");
    }
    let waiting = volumes::mount_all(&configure.volumes, disks, uevents).map_err(at("mount the volumes"))?;
    root::mount_system(&new_root, is_task).map_err(at("mount the system's file systems"))?;
    volumes::place(&waiting, &new_root).map_err(at("mount the volumes"))?;
    identity::write(&new_root, configure).map_err(at("write the VM's identity"))?;
    drop(new_root);
    timeline.mark("identity");
    root::switch().map_err(at("switch to the root file system"))?;
    timeline.mark("switch");
    Ok(())
}

fn run_role(role: Role, wire: Wire, signals: Signals, disks: Disks) -> ! {
    match role {
        Role::Idle => {
            let mut agent = Agent::new(Part::IdleInit, wire, signals, disks);
            agent.wire().send(&GuestMessage::Configured { uptime_ms: uptime_ms() });
            agent.run()
        }
        Role::Task(process) => {
            let stop_signal = process.stop_signal.map_or(libc::SIGTERM, i32::from);
            let mut agent = Agent::new(Part::TaskInit { stop_signal }, wire, signals, disks);
            match agent.start_task(&process) {
                Ok(()) => {
                    agent.wire().send(&GuestMessage::Configured { uptime_ms: uptime_ms() });
                    agent.run()
                }
                Err(e) => fail_launch(e, agent.wire()),
            }
        }
        Role::Machine { args, env } => match machine::split(&args, &env) {
            Ok(machine::Split::Init(failure)) => {
                // The agent, which reads why, ends the machine; PID 1 must not end before.
                console::error(&failure.to_string());
                loop {
                    // SAFETY: waits for a signal.
                    unsafe { libc::pause() };
                }
            }
            Ok(machine::Split::Agent(failure)) => {
                let mut agent = Agent::new(Part::MachineAgent, wire, signals, disks);
                match failure {
                    None => agent.wire().send(&GuestMessage::Configured { uptime_ms: uptime_ms() }),
                    Some(failure) => fail_launch(failure, agent.wire()),
                }
                agent.run()
            }
            Err(e) => {
                let mut wire = wire;
                fail_launch(e, &mut wire)
            }
        },
    }
}

fn fail_launch(error: LaunchError, wire: &mut Wire) -> ! {
    fail(FailedStep { step: "start the command", error: error.into() }, wire, &Disks::default())
}

fn fail(failed: FailedStep, wire: &mut Wire, disks: &Disks) -> ! {
    let FailedStep { step, error } = failed;
    console::error(&format!("{step}: {error}"));
    let message = GuestMessage::ConfigureFailed {
        step: step.to_owned(),
        message: error.to_string(),
        exit_code: error.exit_code(),
    };
    wire.send(&message);
    wait_for_goodbye(wire);
    shutdown::stop_machine(shutdown::effective(ShutdownAction::Poweroff, Some(wire.channel())), disks)
}

/// What a panic does to PID 1: says so, and ends the machine.
pub fn panicked(message: &str) -> ! {
    console::error(message);
    if std::process::id() == 1 {
        shutdown::stop_machine(ShutdownAction::Poweroff, &Disks::default());
    }
    spawn::exit_child(101)
}
