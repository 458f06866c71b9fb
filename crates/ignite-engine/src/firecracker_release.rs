//! Firecracker's own release of one version, put where Ignite finds it: only when someone asks for that.

use crate::choose_vmm::PROGRAM_DIR;
use crate::engine::Engine;
use crate::error::EngineError;
use flate2::read::GzDecoder;
use ignite_store::{FileLock, atomic};
use ignite_vmm::{VmmError, drivers};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The release that is fetched.
const VERSION: &str = "1.17.0";
/// SHA-256 of its archives, as published with them.
const ARCHIVES: [(&str, &str); 2] = [
    ("x86_64", "sha256:06094a1108ae9e82aa4c23a775aa92758f53f1175d422270d9d6162cb9ade558"),
    ("aarch64", "sha256:e351ebe4f7a16b5873bbd51005d2e6767103cff4d5ebc829df2d3f95a93e2256"),
];
/// Where its project publishes releases.
const RELEASES: &str = "https://github.com/firecracker-microvm/firecracker/releases/download";
/// Most bytes of an archive, and of the program in it.
const MAX_ARCHIVE_BYTES: u64 = 64 << 20;
const MAX_PROGRAM_BYTES: u64 = 64 << 20;
/// Another one that fetches the same has a slow network.
const LOCK_DEADLINE: Duration = Duration::from_secs(600);
const PROGRAM: &str = "firecracker";
/// How often, and how soon, a program that is still open for writing is tried again.
const BUSY_ATTEMPTS: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// Held by whoever fetches.
const LOCK: &str = ".lock";
/// What is being made; whoever is killed leaves it to the next one.
const DRAFT: &str = ".firecracker.new";

/// What became of the wish to have Firecracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installed {
    /// There was one.
    Before(PathBuf),
    /// It is this one.
    Now(PathBuf),
}

impl Engine {
    /// Fetches Firecracker into the data directory, unless one is found already.
    pub async fn install_firecracker(&self) -> Result<Installed, EngineError> {
        self.install(&Release::of_this_cpu(self.settings.releases_url.as_deref())?).await
    }

    async fn install(&self, release: &Release) -> Result<Installed, EngineError> {
        if let Some(found) = self.firecracker() {
            return Ok(Installed::Before(found));
        }
        let dir = self.paths.data().join(PROGRAM_DIR);
        atomic::ensure_dir(&dir, 0o755)?;
        let lock_path = dir.join(LOCK);
        let lock = tokio::task::spawn_blocking(move || FileLock::take(&lock_path, LOCK_DEADLINE));
        let _lock = lock.await.map_err(|error| EngineError::Worker(error.to_string()))??;
        if let Some(found) = self.firecracker() {
            return Ok(Installed::Before(found));
        }
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| EngineError::Firecracker {
            url: release.url.clone(),
            digest: release.digest.clone(),
            place: dir.join(PROGRAM),
            source,
        };
        let mut archive = tempfile::tempfile_in(&dir).map_err(EngineError::file("write to", &dir))?;
        ignite_oci::fetch_file(
            &release.url,
            Some(&release.digest),
            MAX_ARCHIVE_BYTES,
            &mut archive,
            &self.settings.pull,
        )
        .await
        .map_err(|error| failed(error.into()))?;
        let draft = dir.join(DRAFT);
        let path = dir.join(PROGRAM);
        let made = unpack(archive, &release.member, &draft)
            .and_then(|()| runs(&draft))
            .and_then(|()| std::fs::rename(&draft, &path));
        match made {
            Ok(()) => Ok(Installed::Now(path)),
            Err(error) => {
                let _ = std::fs::remove_file(&draft);
                Err(failed(error.into()))
            }
        }
    }

    /// The Firecracker that would be used.
    pub(crate) fn firecracker(&self) -> Option<PathBuf> {
        drivers::find(PROGRAM, &self.vmm_programs()).and_then(|driver| driver.program().ok())
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Release {
    url: String,
    digest: String,
    /// The program's name in the archive.
    member: String,
}

impl Release {
    fn of_this_cpu(mirror: Option<&str>) -> Result<Release, EngineError> {
        let cpu = std::env::consts::ARCH;
        Release::of(cpu, mirror).ok_or_else(|| EngineError::NoFirecracker { cpu: cpu.to_owned() })
    }

    fn of(cpu: &str, mirror: Option<&str>) -> Option<Release> {
        let (_, digest) = ARCHIVES.iter().find(|(name, _)| *name == cpu)?;
        let base = mirror.unwrap_or(RELEASES).trim_end_matches('/');
        let name = format!("firecracker-v{VERSION}-{cpu}");
        Some(Release {
            url: format!("{base}/v{VERSION}/{name}.tgz"),
            digest: (*digest).to_owned(),
            member: format!("release-v{VERSION}-{cpu}/{name}"),
        })
    }
}

/// Writes the one member that is wanted, executable, and nothing else of the archive.
fn unpack(archive: File, member: &str, draft: &Path) -> io::Result<()> {
    let mut archive = tar::Archive::new(GzDecoder::new(archive).take(MAX_ARCHIVE_BYTES * 4));
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path_bytes().as_ref() != member.as_bytes() || !entry.header().entry_type().is_file() {
            continue;
        }
        if entry.size() > MAX_PROGRAM_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("{member} is larger than it may be")));
        }
        let _ = std::fs::remove_file(draft);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(draft)?;
        io::copy(&mut entry.take(MAX_PROGRAM_BYTES), &mut file)?;
        return file.sync_all();
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("the archive has no {member}")))
}

/// A program that does not run here is not put where a good one would be looked for.
fn runs(program: &Path) -> io::Result<()> {
    let ask = || drivers::at(PROGRAM, program).map(|driver| driver.version());
    let mut version = ask();
    // A child that was forked while we wrote it has it open until it executes its own program.
    for _ in 0..BUSY_ATTEMPTS {
        let is_busy = |source: &io::Error| source.kind() == io::ErrorKind::ExecutableFileBusy;
        if !matches!(&version, Some(Err(VmmError::Spawn { source, .. })) if is_busy(source)) {
            break;
        }
        std::thread::sleep(BUSY_PAUSE);
        version = ask();
    }
    match version {
        Some(Ok(version)) if version.starts_with(VERSION) => Ok(()),
        Some(Ok(version)) => Err(io::Error::other(format!("it says that it is version {version:?}, not {VERSION}"))),
        Some(Err(error)) => Err(io::Error::other(error)),
        None => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_pinned_for_each_cpu_wherever_they_are_fetched_from() {
        let release = Release::of("x86_64", None).unwrap();
        assert_eq!(
            release.url,
            "https://github.com/firecracker-microvm/firecracker/releases/download/v1.17.0/firecracker-v1.17.0-x86_64.tgz"
        );
        let mirrored = Release::of("aarch64", Some("http://127.0.0.1:1/mirror/")).unwrap();
        assert_eq!(mirrored.url, "http://127.0.0.1:1/mirror/v1.17.0/firecracker-v1.17.0-aarch64.tgz");
        assert_eq!(mirrored.member, "release-v1.17.0-aarch64/firecracker-v1.17.0-aarch64");
        assert_ne!(mirrored.digest, release.digest);
        assert_eq!(Release::of("riscv64", None), None);
    }

    fn archive(members: &[(&str, &[u8])]) -> File {
        let mut builder =
            tar::Builder::new(flate2::write::GzEncoder::new(tempfile::tempfile().unwrap(), Default::default()));
        for (name, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        let mut file = builder.into_inner().unwrap().finish().unwrap();
        io::Seek::rewind(&mut file).unwrap();
        file
    }

    #[test]
    fn only_the_program_is_taken_out_and_only_if_it_runs_as_that_version() {
        let dir = tempfile::tempdir().unwrap();
        let draft = dir.path().join(DRAFT);
        std::fs::write(&draft, "left by one that was killed").unwrap();
        let says = |version: &str| format!("#!/bin/sh\necho Firecracker v{version}\n");
        for (version, is_right) in [(VERSION, true), ("1.3.0", false)] {
            let program = says(version);
            let members: [(&str, &[u8]); 2] = [("r/other", b"x"), ("r/firecracker", program.as_bytes())];
            unpack(archive(&members), "r/firecracker", &draft).unwrap();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
            let verdict = runs(&draft);
            assert_eq!(verdict.is_ok(), is_right, "{verdict:?}");
        }
        let missing = unpack(archive(&[("r/other", b"x")]), "r/firecracker", &draft).unwrap_err();
        assert!(missing.to_string().contains("r/firecracker"), "{missing}");
        std::fs::write(&draft, "no program").unwrap();
        assert!(runs(&draft).is_err());
    }

    /// Answers each request with what comes next, then hangs up; says what was asked for.
    fn server(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap();
                asked.push(String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or_default().to_owned());
                io::Write::write_all(&mut stream, &answer).unwrap();
            }
            asked
        });
        (url, asked)
    }

    fn answer(status: &str, length: usize, body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    fn hex(bytes: &[u8]) -> String {
        use sha2::Digest;
        sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn engine(dir: &Path) -> Engine {
        Engine::open(crate::Settings {
            data_dir: dir.join("data"),
            run_dir: dir.join("run"),
            spawn_program: PathBuf::new(),
            is_root: false,
            // Nothing that is on the host counts.
            firecracker: Some(dir.join("data").join(PROGRAM_DIR).join(PROGRAM)),
            releases_url: None,
            program_dirs: Vec::new(),
            secrets_dir: PathBuf::new(),
            pull: ignite_oci::PullOptions {
                retries: 1,
                retry_pause: Duration::from_millis(1),
                idle_timeout: Duration::from_millis(500),
                ..Default::default()
            },
            boot_dir: PathBuf::new(),
            modules_dir: PathBuf::new(),
        })
        .unwrap()
    }

    #[tokio::test]
    async fn what_comes_is_what_was_published_or_nothing_is_installed() {
        let dir = tempfile::tempdir().unwrap();
        let engine = engine(dir.path());
        let bin = dir.path().join("data").join(PROGRAM_DIR);
        let program = format!("#!/bin/sh\necho Firecracker v{VERSION}\n");
        let mut good = Vec::new();
        archive(&[("r/firecracker", program.as_bytes())]).read_to_end(&mut good).unwrap();
        let digest = format!("sha256:{}", hex(&good));
        let release =
            |url: &str| Release { url: format!("{url}/f.tgz"), digest: digest.clone(), member: "r/firecracker".into() };
        let bad = [&good[..good.len() - 1], b"x"].concat();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let ok = |length: usize, body: &[u8]| answer("200 OK", length, body);
        for (answers, says) in [
            (vec![ok(bad.len(), &bad)], "has digest"),
            (vec![answer("404 Not Found", 0, b"")], "not found"),
            (vec![answer("302 Found\r\nLocation: http://mirror.example/f.tgz", 0, b"")], "without TLS"),
            // Cut, and cut again; then nobody is there.
            (vec![ok(good.len(), &good[..9]), ok(good.len(), &good[..9])], "gave up after 2 attempts"),
            (Vec::new(), "Connection refused"),
        ] {
            let (url, asked) = match answers.is_empty() {
                true => (format!("http://{closed}"), None),
                false => {
                    let (url, asked) = server(answers);
                    (url, Some(asked))
                }
            };
            let error = engine.install(&release(&url)).await.unwrap_err();
            let text = ignite_api::chain_of(&error);
            assert!(text.contains(says), "{says}: {text}");
            assert!(error.hint().is_some_and(|hint| hint.contains(&digest) && hint.contains("QEMU")), "{error:?}");
            assert_eq!(std::fs::read_dir(&bin).unwrap().count(), 1, "{says}: only the lock");
            assert!(asked.is_none_or(|asked| asked.join().unwrap().iter().all(|line| line == "GET /f.tgz HTTP/1.1")));
        }
        let (url, _) = server(vec![ok(good.len(), &good)]);
        let path = bin.join(PROGRAM);
        assert_eq!(engine.install(&release(&url)).await.unwrap(), Installed::Now(path.clone()));
        assert_eq!(std::fs::read_dir(&bin).unwrap().count(), 2);
        // Nobody is asked again.
        assert_eq!(engine.install(&release(&url)).await.unwrap(), Installed::Before(path));
    }
}
