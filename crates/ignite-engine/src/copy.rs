//! `cp`: files into a VM and out of it, as tar streams of the agent, with bounded memory.

mod pack;
mod place;
mod unpack;

use crate::engine::{Engine, random_bytes, title};
use crate::error::EngineError;
use crate::progress::{Progress, ProgressEvent};
use crate::session::{Session, SessionEvent};
use bytes::Bytes;
use ignite_agent_protocol::message::{FileStat, Open, StreamExit};
use ignite_api::{Uid, Vm};
use ignite_supervisor::control::{ControlReply, ControlRequest};
use place::{Found, Placement, Source, means_directory, parent, place, source_name};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes handed over at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks under way between the two sides of a copy.
const CHUNKS: usize = 16;
/// Symbolic links followed to find a target, as many as Linux follows.
const MAX_LINKS: usize = 40;
/// How the guest's system spells ENOENT; the protocol has only a text.
const NO_SUCH_FILE: &str = "(os error 2)";
const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;

/// How to copy.
#[derive(Debug, Clone, Copy, Default)]
pub struct CopyOptions {
    /// Keep numeric owners; on the host, as root only, also set-id bits and devices.
    pub archive: bool,
    /// Follow the source itself when it is a symbolic link.
    pub follow: bool,
}

/// Bytes from a guest; the last message says whether it is complete.
enum Arrival {
    Chunk(Bytes),
    End,
    Failed(io::Error),
}

impl Engine {
    /// Copies a host path to a guest path, by Docker's rules for targets that exist.
    pub async fn copy_in(
        &self,
        uid: &Uid,
        source: &Path,
        target: &str,
        options: CopyOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<(), EngineError> {
        let vm = self.executing("copy to", uid).await?;
        let follow = options.follow || means_directory(source);
        let read = if follow { std::fs::metadata(source) } else { std::fs::symlink_metadata(source) };
        let metadata = read.map_err(EngineError::file("read", source))?;
        let given = Source { name: source_name(source), is_directory: metadata.is_dir() };
        let (target, found) = self.guest_target(&vm, uid, target).await?;
        let above = match found {
            Found::Missing => self.guest_kind(&vm, uid, &text(parent(&target))).await?,
            Found::File | Found::Directory => Found::Directory,
        };
        let Placement { directory, name } = place(&given, &target, found, above).map_err(EngineError::CopyRefused)?;
        let open = Open::CopyIn { path: text(&directory), keep_owner: options.archive };
        let session = self.open_session(&vm, uid, &ControlRequest::Open { open }).await?;
        let total = metadata.is_file().then_some(metadata.len());
        let path = source.to_owned();
        let pack = move |output: ChunkWriter| {
            let mut output = BufWriter::with_capacity(CHUNK_BYTES, output);
            pack::pack(&path, name.as_deref().map(Path::new), follow, &mut output)?;
            output.flush()
        };
        send(session, &source.display().to_string(), pack, total, progress).await
    }

    /// Extracts a tar stream into an existing directory of the guest.
    pub async fn copy_in_archive(
        &self,
        uid: &Uid,
        mut input: Box<dyn Read + Send>,
        directory: &str,
        options: CopyOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<(), EngineError> {
        let vm = self.executing("copy to", uid).await?;
        let directory = absolute(directory);
        if self.guest_kind(&vm, uid, &directory).await? != Found::Directory {
            return Err(EngineError::CopyRefused(format!("the destination {directory} must be a directory")));
        }
        let open = Open::CopyIn { path: directory, keep_owner: options.archive };
        let session = self.open_session(&vm, uid, &ControlRequest::Open { open }).await?;
        let pack = move |output: ChunkWriter| {
            let mut output = BufWriter::with_capacity(CHUNK_BYTES, output);
            io::copy(&mut input, &mut output)?;
            output.flush()
        };
        send(session, "standard input", pack, None, progress).await
    }

    /// Copies a guest path to a host path, by Docker's rules for targets that exist. Nothing is written outside of it.
    pub async fn copy_out(
        &self,
        uid: &Uid,
        source: &str,
        target: &Path,
        options: CopyOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<(), EngineError> {
        let vm = self.executing("copy from", uid).await?;
        let source = absolute(source);
        let (open, is_directory, total) = self.guest_source(&vm, uid, &source, options).await?;
        let found = host_kind(target);
        // A link to a file is written through, as cp(1) does; links that the guest sends never are.
        let resolved = match found {
            Found::File => std::fs::canonicalize(target).map_err(EngineError::file("find", target))?,
            Found::Missing | Found::Directory => target.to_owned(),
        };
        let is_file_path = found == Found::File && !means_directory(target);
        let shown = if is_file_path { resolved.as_path() } else { target };
        let given = Source { name: source_name(Path::new(&source)), is_directory };
        let placement = place(&given, shown, found, host_kind(parent(shown))).map_err(EngineError::CopyRefused)?;
        let Placement { directory, name } = placement;
        let is_trusted = options.archive && self.settings.is_root;
        let unique = u64::from_le_bytes(random_bytes()?);
        let mut destination = unpack::Target::open(&directory, name, is_trusted, unique)
            .map_err(EngineError::file("open", &directory))?;
        if Path::new(&source).file_name().is_none() {
            destination = destination.of_nameless();
        }
        let session = self.open_session(&vm, uid, &ControlRequest::Open { open }).await?;
        receive(session, &source, total, progress, move |input| unpack::unpack(&destination, input)).await
    }

    /// Writes a guest path as a tar stream.
    pub async fn copy_out_archive(
        &self,
        uid: &Uid,
        source: &str,
        mut output: Box<dyn Write + Send>,
        options: CopyOptions,
        progress: Arc<dyn Progress>,
    ) -> Result<(), EngineError> {
        let vm = self.executing("copy from", uid).await?;
        let source = absolute(source);
        let (open, _, total) = self.guest_source(&vm, uid, &source, options).await?;
        let session = self.open_session(&vm, uid, &ControlRequest::Open { open }).await?;
        let write = move |mut input: ChunkReader| {
            io::copy(&mut input, &mut output)?;
            output.flush()
        };
        receive(session, &source, total, progress, write).await
    }

    /// How to read a guest path, whether it is a directory, and the size of a file.
    async fn guest_source(
        &self,
        vm: &Vm,
        uid: &Uid,
        source: &str,
        options: CopyOptions,
    ) -> Result<(Open, bool, Option<u64>), EngineError> {
        let follow = options.follow || means_directory(Path::new(source));
        let stat = self.stat(vm, uid, source).await?;
        let is_directory = match &stat.link_target {
            Some(_) if follow => self.guest_kind(vm, uid, source).await? == Found::Directory,
            _ => stat.mode & S_IFMT == S_IFDIR,
        };
        let total = (!is_directory && stat.link_target.is_none()).then_some(stat.size);
        // Without `/.` and slashes at the end: the base name is the archive's top.
        let path = text(&Path::new(source).components().collect::<PathBuf>());
        Ok((Open::CopyOut { path, follow }, is_directory, total))
    }

    /// A target in the guest, with symbolic links followed, and what is there.
    async fn guest_target(&self, vm: &Vm, uid: &Uid, target: &str) -> Result<(PathBuf, Found), EngineError> {
        let mut path = absolute(target);
        for _ in 0..MAX_LINKS {
            if self.guest_kind(vm, uid, &path).await? == Found::Directory {
                return Ok((PathBuf::from(path), Found::Directory));
            }
            match found(self.stat(vm, uid, path.trim_end_matches('/')).await)? {
                None => return Ok((PathBuf::from(path), Found::Missing)),
                Some(FileStat { link_target: Some(link), .. }) => {
                    path = text(&parent(Path::new(&path)).join(link));
                }
                Some(_) => return Ok((PathBuf::from(path), Found::File)),
            }
        }
        Err(EngineError::CopyRefused(format!("too many symbolic links in {target}")))
    }

    /// What a guest path is, with symbolic links followed.
    async fn guest_kind(&self, vm: &Vm, uid: &Uid, path: &str) -> Result<Found, EngineError> {
        // A link before `/.` is followed even by a `Stat` that follows none.
        match self.stat(vm, uid, &format!("{}/.", path.trim_end_matches('/'))).await {
            Ok(_) => Ok(Found::Directory),
            Err(EngineError::Guest { .. }) => match found(self.stat(vm, uid, path).await) {
                Ok(Some(_)) => Ok(Found::File),
                Ok(None) | Err(EngineError::Guest { .. }) => Ok(Found::Missing),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    async fn stat(&self, vm: &Vm, uid: &Uid, path: &str) -> Result<FileStat, EngineError> {
        let open = Open::Stat { path: path.to_owned() };
        let (reply, _) = self.ask(vm, uid, &ControlRequest::Open { open }).await?;
        if let ControlReply::Streaming { opened } = &reply
            && let Some(stat) = &opened.stat
        {
            return Ok(stat.clone());
        }
        self.expect_done(vm, reply)?;
        let source = io::Error::new(io::ErrorKind::InvalidData, "the guest did not say what the path is");
        Err(EngineError::Control { name: title(vm), source })
    }
}

/// `None` where the guest has no such file.
fn found(stat: Result<FileStat, EngineError>) -> Result<Option<FileStat>, EngineError> {
    match stat {
        Ok(stat) => Ok(Some(stat)),
        Err(EngineError::Guest { message, .. }) if message.trim_end().ends_with(NO_SUCH_FILE) => Ok(None),
        Err(error) => Err(error),
    }
}

fn host_kind(path: &Path) -> Found {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Found::Directory,
        Ok(_) => Found::File,
        // `file/` fails although the file is there.
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => Found::File,
        Err(_) => Found::Missing,
    }
}

/// Guest paths are relative to `/`, as Docker's are.
fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Sends what `pack` writes and waits until the guest has it all.
async fn send(
    session: Session,
    what: &str,
    pack: impl FnOnce(ChunkWriter) -> io::Result<()> + Send + 'static,
    total: Option<u64>,
    progress: Arc<dyn Progress>,
) -> Result<(), EngineError> {
    progress.event(ProgressEvent::Phase("copy"));
    let (sender, mut chunks) = mpsc::channel::<Bytes>(CHUNKS);
    let packer = tokio::task::spawn_blocking(move || pack(ChunkWriter(sender)));
    let (mut input, mut output) = session.split();
    let sending = async {
        let mut done = 0;
        while let Some(chunk) = chunks.recv().await {
            done += chunk.len() as u64;
            if input.write(chunk).await.is_err() {
                break;
            }
            progress.event(ProgressEvent::Bytes { done, total });
        }
        // After a failure too: the guest then removes what it has half. How it went is said by its exit.
        let _ = input.close_stdin().await;
        std::future::pending().await
    };
    let exiting = async {
        loop {
            if let SessionEvent::Exit(exit) = output.next().await? {
                return Ok(exit);
            }
        }
    };
    let exit: Result<StreamExit, EngineError> = tokio::select! {
        exit = exiting => exit,
        never = sending => never,
    };
    drop(chunks);
    progress.event(ProgressEvent::PhaseDone("copy"));
    let exit = exit?;
    match exit.exit_code() {
        0 => finished(packer, what).await,
        _ => {
            // Its own failure has made the guest's. One that still waits for its input is left to itself.
            if packer.is_finished() {
                finished(packer, what).await?;
            }
            Err(guest_failure(&exit))
        }
    }
}

/// Gives what the guest sends to `unpack`, and says who failed first.
async fn receive(
    session: Session,
    what: &str,
    total: Option<u64>,
    progress: Arc<dyn Progress>,
    unpack: impl FnOnce(ChunkReader) -> io::Result<()> + Send + 'static,
) -> Result<(), EngineError> {
    progress.event(ProgressEvent::Phase("copy"));
    let (sender, arrivals) = mpsc::channel(CHUNKS);
    let reader = ChunkReader { arrivals, rest: Bytes::new(), is_at_end: false };
    let unpacker = tokio::task::spawn_blocking(move || unpack(reader));
    let (_input, mut output) = session.split();
    let mut done = 0;
    let failure = loop {
        match output.next().await {
            Ok(SessionEvent::Stdout(chunk)) => {
                done += chunk.len() as u64;
                if sender.send(Arrival::Chunk(chunk)).await.is_err() {
                    // The unpacker has failed; it says why.
                    break None;
                }
                progress.event(ProgressEvent::Bytes { done, total });
            }
            Ok(SessionEvent::Stderr(_)) => {}
            Ok(SessionEvent::Exit(exit)) if exit.exit_code() == 0 => {
                let _ = sender.send(Arrival::End).await;
                break None;
            }
            Ok(SessionEvent::Exit(exit)) => break Some(guest_failure(&exit)),
            Err(error) => break Some(error),
        }
    };
    if let Some(failure) = &failure {
        let _ = sender.send(Arrival::Failed(io::Error::other(failure.to_string()))).await;
    }
    drop(sender);
    let unpacked = finished(unpacker, what).await;
    progress.event(ProgressEvent::PhaseDone("copy"));
    failure.map_or(unpacked, Err)
}

async fn finished(work: JoinHandle<io::Result<()>>, what: &str) -> Result<(), EngineError> {
    match work.await {
        Ok(done) => done.map_err(|source| EngineError::Copy { what: what.to_owned(), source }),
        Err(error) => Err(EngineError::Worker(error.to_string())),
    }
}

fn guest_failure(exit: &StreamExit) -> EngineError {
    let message = match exit {
        StreamExit::Failed { message, .. } => format!("the VM could not copy: {message}"),
        StreamExit::Exited { .. } | StreamExit::Signaled { .. } => "the copy was ended in the VM".to_owned(),
    };
    EngineError::Guest { message, exit_code: exit.exit_code() }
}

/// The blocking end of a copy into a VM.
struct ChunkWriter(mpsc::Sender<Bytes>);

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = &bytes[..bytes.len().min(CHUNK_BYTES)];
        let sent = self.0.blocking_send(Bytes::copy_from_slice(chunk));
        sent.map(|()| chunk.len()).map_err(|_| io::Error::other("the VM takes no more"))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The blocking end of a copy out of a VM.
struct ChunkReader {
    arrivals: mpsc::Receiver<Arrival>,
    rest: Bytes,
    is_at_end: bool,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() && !self.is_at_end {
            match self.arrivals.blocking_recv() {
                Some(Arrival::Chunk(chunk)) => self.rest = chunk,
                Some(Arrival::End) => self.is_at_end = true,
                Some(Arrival::Failed(error)) => return Err(error),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the copy was interrupted")),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}
