//! The one loop after boot: frames, processes, signals and deadlines.

use crate::error::LaunchError;
use crate::init_ready::InitReady;
use crate::root::Disks;
use crate::shutdown::{self, InitRequest};
use crate::signals::Signals;
use crate::streams::Stream;
use crate::wire::{Incoming, Wire};
use crate::{launch, requests, spawn};
use ignite_agent_protocol::codec::Assembler;
use ignite_agent_protocol::frame::{
    FIRST_OPEN_STREAM, Header, Kind, MAX_OPEN, MAX_PAYLOAD, MAX_STREAMS, STDERR, STDIN, STDOUT, TASK_STREAM,
};
use ignite_agent_protocol::message::{
    ExitingCause, GuestMessage, HostMessage, Open, Process, ShutdownAction, StreamExit, StreamRequest,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the end of the machine waits for the host to have read everything.
const GOODBYE: Duration = Duration::from_secs(5);
/// Grace of a task when the guest itself asks for the end.
const OWN_GRACE: Duration = Duration::from_secs(10);

/// What this process is in the VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// PID 1, with a task as its child.
    TaskInit {
        /// Linux signal that asks the task to stop.
        stop_signal: i32,
    },
    /// PID 1 with nothing but streams.
    IdleInit,
    /// A process beside the image's own init.
    MachineAgent,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    part: Part,
    wire: Wire,
    signals: Signals,
    disks: Disks,
    streams: BTreeMap<u32, Stream>,
    opening: BTreeMap<u32, Assembler>,
    ending: Option<Ending>,
    /// Of a machine whose init cannot be talked to yet; until then requests are held.
    init: Option<InitReady>,
    held: Vec<(u32, Open)>,
    held_action: Option<ShutdownAction>,
    scratch: Box<[u8]>,
}

/// An end that has been asked for.
#[derive(Debug, Clone, Copy)]
struct Ending {
    action: ShutdownAction,
    force_at: Instant,
    is_forced: bool,
}

/// What a poll entry belongs to.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Channel,
    Init,
    Stream(u32, u8),
}

impl Agent {
    /// An agent that takes over the channel.
    pub fn new(part: Part, wire: Wire, signals: Signals, disks: Disks) -> Agent {
        wire.adopt();
        Agent {
            part,
            wire,
            signals,
            disks,
            streams: BTreeMap::new(),
            opening: BTreeMap::new(),
            ending: None,
            init: if part == Part::MachineAgent { InitReady::watch() } else { None },
            held: Vec::new(),
            held_action: None,
            scratch: vec![0; MAX_PAYLOAD].into_boxed_slice(),
        }
    }

    /// The channel, for messages of the set-up.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Starts the task on its stream.
    pub fn start_task(&mut self, process: &Process) -> Result<(), LaunchError> {
        let child = spawn::start(&launch::plan(process, &spawn::facts())?)?;
        self.streams.insert(TASK_STREAM, Stream::of_child(TASK_STREAM, child));
        Ok(())
    }

    /// Runs until the machine ends.
    pub fn run(mut self) -> ! {
        loop {
            self.reap();
            self.settle();
            self.wire.flush();
            self.wait();
            self.keep_deadlines();
        }
    }

    /// Waits for any event or the next deadline, and handles what has come.
    fn wait(&mut self) {
        let mut polls = Vec::new();
        let mut sources = Vec::new();
        let mut add = |fd, events, source| {
            polls.push(libc::pollfd { fd, events, revents: 0 });
            sources.push(source);
        };
        add(self.signals.fd(), libc::POLLIN, Source::Signals);
        if !self.wire.waits_for_signal() {
            let writing = if self.wire.has_outgoing() { libc::POLLOUT } else { 0 };
            add(self.wire.channel().fd(), libc::POLLIN | writing, Source::Channel);
        }
        if let Some(init) = &self.init {
            add(init.fd(), libc::POLLIN, Source::Init);
        }
        let has_room = self.wire.has_room();
        for (id, stream) in &self.streams {
            for (fd, events, channel) in stream.interests(has_room) {
                add(fd, events, Source::Stream(*id, channel));
            }
        }
        let deadlines = self.streams.values().filter_map(Stream::deadline);
        let ending = self.ending.filter(|ending| !ending.is_forced).map(|ending| ending.force_at);
        let init = self.init.as_ref().map(InitReady::deadline);
        let timeout = deadlines.chain(ending).chain(init).min().map_or(-1, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis() + 1;
            left.try_into().unwrap_or(i32::MAX)
        });
        // SAFETY: the entries live through the call.
        let ready = unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, timeout) };
        if ready <= 0 {
            return;
        }
        for (poll, source) in polls.iter().zip(sources).filter(|(poll, _)| poll.revents != 0) {
            match source {
                Source::Signals => self.handle_signals(),
                Source::Channel => self.handle_channel(poll.revents),
                Source::Init => {
                    if let Some(init) = &mut self.init {
                        init.look();
                    }
                }
                Source::Stream(id, channel) => {
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.ready(channel, poll.revents, &mut self.wire, &mut self.scratch);
                    }
                }
            }
        }
    }

    fn handle_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            let is_init = self.part != Part::MachineAgent;
            // What poweroff, halt and reboot of busybox, sysvinit and systemd send to PID 1.
            let action = match signal {
                libc::SIGIO => {
                    self.connect();
                    continue;
                }
                libc::SIGUSR1 | libc::SIGUSR2 | libc::SIGPWR => ShutdownAction::Poweroff,
                libc::SIGTERM | libc::SIGINT => ShutdownAction::Reboot,
                signal if signal == libc::SIGRTMIN() + 4 => ShutdownAction::Poweroff,
                signal if signal == libc::SIGRTMIN() + 5 => ShutdownAction::Reboot,
                _ => continue,
            };
            if is_init {
                self.begin_end(action, OWN_GRACE);
            }
        }
    }

    fn connect(&mut self) {
        let was_connected = self.wire.is_connected();
        if self.wire.try_connect() && !was_connected {
            // A host that comes back finds a VM that is what it was told to be.
            self.wire.send(&GuestMessage::Configured { uptime_ms: crate::wire::uptime_ms() });
        }
    }

    fn handle_channel(&mut self, events: libc::c_short) {
        if !self.wire.is_connected() {
            return self.connect();
        }
        if events & libc::POLLOUT != 0 {
            self.wire.flush();
        }
        if events & !libc::POLLOUT != 0 {
            for incoming in self.wire.receive() {
                match incoming {
                    Incoming::Message(message) => self.handle_message(message),
                    Incoming::Frame(header, payload) => self.handle_frame(header, &payload),
                }
            }
        }
        if !self.wire.is_connected() {
            self.host_is_gone();
        }
    }

    /// Ends the streams of a host that is gone; a task goes on without.
    fn host_is_gone(&mut self) {
        for (_, stream) in self.streams.iter_mut().filter(|(id, _)| **id != TASK_STREAM) {
            stream.hang_up();
        }
        self.opening.clear();
        self.held.clear();
        self.connect();
    }

    fn handle_message(&mut self, message: HostMessage) {
        match message {
            HostMessage::Ping { nonce } => self.wire.send(&GuestMessage::Pong { nonce }),
            HostMessage::SetClock { unix_ns } => {
                if let Err(e) = crate::clock::set(unix_ns) {
                    self.wire.log("warn", &e.to_string());
                }
            }
            HostMessage::SetPeers { peers } => {
                if let Err(e) = crate::peers::update(Path::new("/"), &peers) {
                    self.wire.log("warn", &format!("write the network's names to /etc/hosts: {e}"));
                }
            }
            HostMessage::Shutdown { action, grace_ms } => self.begin_end(action, Duration::from_millis(grace_ms)),
            HostMessage::Configure(_) => self.wire.log("warn", "configured already"),
            HostMessage::Goodbye => {}
        }
    }

    fn handle_frame(&mut self, header: Header, payload: &[u8]) {
        let Header { stream: id, kind, channel, .. } = header;
        if kind == Kind::Open {
            return self.open(id, channel, payload);
        }
        if kind == Kind::Close {
            self.held.retain(|(held, _)| *held != id);
        }
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match kind {
            Kind::Data if channel == STDIN => stream.push_input(payload, &mut self.wire),
            Kind::Eof if channel == STDIN => stream.end_input(&mut self.wire),
            Kind::Window if matches!(channel, STDOUT | STDERR) => {
                if let Ok(grant) = payload.try_into() {
                    stream.grant(channel, u32::from_le_bytes(grant));
                }
            }
            Kind::Request => match serde_json::from_slice(payload) {
                Ok(StreamRequest::Signal { signal }) => stream.signal(i32::from(signal)),
                Ok(StreamRequest::Resize(size)) => {
                    if let Some(terminal) = stream.terminal() {
                        let _ = spawn::resize(terminal, size);
                    }
                }
                Err(e) => self.wire.log("warn", &format!("request of stream {id}: {e}")),
            },
            // The task lives on when nobody looks at it: its output goes nowhere.
            Kind::Close if id != TASK_STREAM => stream.hang_up(),
            Kind::Close | Kind::Control | Kind::Open | Kind::Opened | Kind::Data | Kind::Eof | Kind::Window => {}
        }
    }

    fn open(&mut self, id: u32, channel: u8, payload: &[u8]) {
        let count = self.opening.len() + self.streams.len() + self.held.len();
        let is_new = self.opening.contains_key(&id) || count <= MAX_STREAMS;
        let is_held = self.held.iter().any(|(held, _)| *held == id);
        if id < FIRST_OPEN_STREAM || self.streams.contains_key(&id) || is_held || !is_new {
            self.opening.remove(&id);
            let message = "stream cannot be opened: too many, or in use".to_owned();
            return self.wire.send_json(id, Kind::Close, &StreamExit::Failed { code: 125, message });
        }
        let assembled = self.opening.entry(id).or_insert_with(|| Assembler::new(MAX_OPEN)).push(channel, payload);
        let open = match assembled {
            Ok(None) => return,
            Ok(Some(open)) => open,
            Err(e) => {
                self.opening.remove(&id);
                let exit = StreamExit::Failed { code: 125, message: e.to_string() };
                return self.wire.send_json(id, Kind::Close, &exit);
            }
        };
        self.opening.remove(&id);
        match self.init {
            Some(_) => self.held.push((id, open)),
            None => self.start(id, open),
        }
    }

    fn start(&mut self, id: u32, open: Open) {
        match requests::start(id, open) {
            Ok(requests::Started::Stream { stream, opened }) => {
                if let Some(opened) = opened {
                    self.wire.send_json(id, Kind::Opened, &opened);
                }
                self.streams.insert(id, stream);
            }
            Ok(requests::Started::Answer(opened)) => {
                self.wire.send_json(id, Kind::Opened, &opened);
                self.wire.send_json(id, Kind::Close, &StreamExit::Exited { code: 0 });
            }
            Err(exit) => self.wire.send_json(id, Kind::Close, &exit),
        }
    }

    /// Reaps every child that has ended, whoever's it was.
    fn reap(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: the status lives through the call.
            let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
            if pid <= 0 {
                return;
            }
            let Some((id, stream)) = self.streams.iter_mut().find(|(_, stream)| stream.pid() == Some(pid)) else {
                continue;
            };
            stream.reaped(status);
            if *id == TASK_STREAM {
                // As in a container: nothing outlives the main process, and its pipes end with it.
                shutdown::kill_everything(false);
                for stream in self.streams.values_mut().filter(|stream| stream.pid().is_some()) {
                    stream.reaped(libc::SIGKILL);
                }
                return;
            }
        }
    }

    /// Sends the `Close` of every stream that is over.
    fn settle(&mut self) {
        let mut over = Vec::new();
        for (id, stream) in &mut self.streams {
            if stream.is_closed() {
                over.push(*id);
            } else if let Some(exit) = stream.settle(&mut self.wire, &mut self.scratch) {
                self.wire.send_json(*id, Kind::Close, &exit);
                over.push(*id);
            }
        }
        for id in &over {
            self.streams.remove(id);
        }
        let is_task_over = matches!(self.part, Part::TaskInit { .. }) && !self.streams.contains_key(&TASK_STREAM);
        if is_task_over {
            let action = self.ending.map_or(ShutdownAction::Poweroff, |ending| ending.action);
            let cause = match self.ending {
                Some(Ending { action: ShutdownAction::Reboot, .. }) => ExitingCause::Reboot,
                Some(_) | None => ExitingCause::TaskExited,
            };
            self.finish(cause, action);
        }
    }

    fn begin_end(&mut self, action: ShutdownAction, grace: Duration) {
        let force_at = Instant::now() + grace;
        self.ending = Some(Ending { action, force_at, is_forced: false });
        match self.part {
            Part::TaskInit { stop_signal } => {
                if let Some(task) = self.streams.get(&TASK_STREAM) {
                    task.signal_leader(stop_signal);
                }
            }
            Part::IdleInit => self.finish(cause_of(action), action),
            Part::MachineAgent => {
                self.wire.send(&GuestMessage::Exiting { cause: cause_of(action) });
                match self.init {
                    Some(_) => self.held_action = Some(action),
                    None => self.ask_init(action),
                }
            }
        }
    }

    /// Does what was held until init could be talked to.
    fn release_held(&mut self) {
        self.init = None;
        if let Some(action) = self.held_action.take() {
            return self.ask_init(action);
        }
        for (id, open) in std::mem::take(&mut self.held) {
            self.start(id, open);
        }
    }

    fn ask_init(&mut self, action: ShutdownAction) {
        let action = shutdown::effective(action, Some(self.wire.channel()));
        match shutdown::request(shutdown::init_kind(), action) {
            InitRequest::Signal(signal) => {
                // SAFETY: a signal to init.
                unsafe { libc::kill(1, signal) };
            }
            InitRequest::Program(program) => {
                let process = Process { args: vec![program.to_owned()], ..Process::default() };
                let started = launch::plan(&process, &spawn::facts()).and_then(|launch| spawn::start(&launch));
                if let Err(e) = started {
                    self.wire.log("warn", &e.to_string());
                    self.force_machine(action);
                }
            }
            InitRequest::Nothing => self.force_machine(action),
        }
    }

    fn keep_deadlines(&mut self) {
        let now = Instant::now();
        if self.init.as_ref().is_some_and(|init| init.is_ready() || init.deadline() <= now) {
            self.release_held();
        }
        for stream in self.streams.values_mut() {
            stream.kill_if_due(now);
        }
        let Some(ending) = self.ending.as_mut().filter(|ending| !ending.is_forced && ending.force_at <= now) else {
            return;
        };
        ending.is_forced = true;
        let action = ending.action;
        match self.part {
            Part::TaskInit { .. } => {
                if let Some(task) = self.streams.get(&TASK_STREAM) {
                    task.signal_leader(libc::SIGKILL);
                }
            }
            Part::IdleInit => self.finish(cause_of(action), action),
            Part::MachineAgent => self.force_machine(action),
        }
    }

    /// Ends a machine whose init does not.
    fn force_machine(&mut self, action: ShutdownAction) {
        let action = shutdown::effective(action, Some(self.wire.channel()));
        self.wire.flush();
        shutdown::kill_everything(true);
        shutdown::stop_machine(action, &self.disks)
    }

    /// Says why, waits until the host has everything, and stops the machine.
    fn finish(&mut self, cause: ExitingCause, action: ShutdownAction) -> ! {
        shutdown::kill_everything(false);
        for (id, stream) in &mut self.streams {
            stream.reaped(libc::SIGKILL);
            let exit = stream.settle(&mut self.wire, &mut self.scratch);
            let exit = exit.unwrap_or(StreamExit::Signaled { signal: libc::SIGKILL as u8 });
            self.wire.send_json(*id, Kind::Close, &exit);
        }
        self.wire.send(&GuestMessage::Exiting { cause });
        wait_for_goodbye(&mut self.wire);
        let action = shutdown::effective(action, Some(self.wire.channel()));
        shutdown::stop_machine(action, &self.disks)
    }
}

/// Writes everything out and waits, for a limited time, until the host says that it has it.
pub fn wait_for_goodbye(wire: &mut Wire) {
    let deadline = Instant::now() + GOODBYE;
    loop {
        wire.flush();
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        if !wire.is_connected() || left == 0 {
            return;
        }
        let writing = if wire.has_outgoing() { libc::POLLOUT } else { 0 };
        let mut poll = libc::pollfd { fd: wire.channel().fd(), events: libc::POLLIN | writing, revents: 0 };
        // SAFETY: one entry that lives through the call.
        unsafe { libc::poll(&mut poll, 1, left.try_into().unwrap_or(i32::MAX)) };
        if poll.revents & !libc::POLLOUT != 0 {
            let has_come = |incoming: &Incoming| matches!(incoming, Incoming::Message(HostMessage::Goodbye));
            if wire.receive().iter().any(has_come) {
                return;
            }
        }
    }
}

fn cause_of(action: ShutdownAction) -> ExitingCause {
    match action {
        ShutdownAction::Poweroff => ExitingCause::Poweroff,
        ShutdownAction::Reboot => ExitingCause::Reboot,
    }
}

const _: () = assert!(STDERR == 2 && STDOUT == 1, "outputs are indexed by whether the channel is STDERR");
