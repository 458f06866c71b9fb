//! `ignited gitops`: keeps the VMs of Git repositories.

use crate::keeper::{Follow as FollowSet, GitRepository, Set};
use crate::service;
use anyhow::Context as _;
use ignite::context::Context;
use ignite::report::{self, UsageError};
use ignite_git::{Checkout, Credentials, Follow, GitError, RemoteUrl, Source, StatusBranch, SubPath, TrustedKeys};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What of our environment git gets.
const INHERITED: [&str; 11] = [
    "PATH",
    "HOME",
    "SSH_AUTH_SOCK",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
];
/// How long a git may still run whose `ignited` was killed.
const LAST_GIT: Duration = Duration::from_secs(5);
/// Longest secret of a webhook.
const MAX_SECRET: u64 = 4096;

/// Flags of `gitops`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Keeps the VMs of Git repositories: what is in the manifests of the followed commit runs. It pulls only, unless \
                  a --status-branch is given. When a repository cannot be reached, or holds something that cannot be read or is \
                  not signed, the last good state goes on."
)]
pub struct Args {
    /// ssh://, https:// or file:// address, or USER@HOST:PATH; with #BRANCH or #BRANCH:PATH to differ from the flags
    #[arg(required = true, value_name = "URL")]
    pub urls: Vec<String>,
    /// Branch to follow [default: what the remote's HEAD names]
    #[arg(short, long)]
    pub branch: Option<String>,
    /// Tag to follow
    #[arg(long, conflicts_with_all = ["branch", "commit"])]
    pub tag: Option<String>,
    /// Commit to stay at
    #[arg(long, conflicts_with = "branch", value_name = "ID")]
    pub commit: Option<String>,
    /// Directory of the manifests inside the repository
    #[arg(long, default_value = "", value_name = "DIR", hide_default_value = true)]
    pub path: String,
    /// Name of the set, for one repository [default: the repository's]
    #[arg(long)]
    pub name: Option<String>,
    /// Time between two looks at the repository, such as 30s or 5m
    #[arg(long, default_value = "30s", value_parser = parse_duration, value_name = "TIME")]
    pub interval: Duration,
    /// Longest time that a call of git may take
    #[arg(long, default_value = "1m", value_parser = parse_duration, value_name = "TIME")]
    pub timeout: Duration,
    /// ssh: private key [default: the agent, or the user's keys]
    #[arg(long, value_name = "FILE")]
    pub identity_file: Option<String>,
    /// ssh: the hosts' keys [default: ~/.ssh/known_hosts]
    #[arg(long, value_name = "FILE")]
    pub hosts_file: Option<String>,
    /// https: user
    #[arg(long, value_name = "USER")]
    pub https_username: Option<String>,
    /// https: file of the password or token
    #[arg(long, value_name = "FILE")]
    pub https_password_file: Option<String>,
    /// https: password; everyone on this host can read it from the command line
    #[arg(long, value_name = "PASSWORD", hide = true, conflicts_with = "https_password_file")]
    pub https_password: Option<String>,
    /// https: trust the certificate authorities of this PEM file instead of the system's
    #[arg(long, value_name = "FILE")]
    pub https_ca_file: Option<String>,
    /// Take only commits signed by a key of this file: ssh public keys or allowed signers, or OpenPGP keys (may be repeated)
    #[arg(long, value_name = "FILE")]
    pub verify_signatures: Vec<String>,
    /// Push how everything stands to this branch, which holds nothing else
    #[arg(long, value_name = "BRANCH")]
    pub status_branch: Option<String>,
    /// Secret of POST /webhook on the --listen address, as GitHub, GitLab, Gitea and Forgejo send it
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub webhook_secret_file: Option<String>,
    /// How it is done.
    #[command(flatten)]
    pub service: service::Args,
}

/// Runs until a signal.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    if args.name.is_some() && args.urls.len() > 1 {
        return Err(UsageError("--name is for one repository".into()).into());
    }
    let credentials = credentials(&args, context)?;
    let files: Vec<PathBuf> = args.verify_signatures.iter().map(|path| expand(path)).collect();
    let trusted_keys = if files.is_empty() { None } else { Some(TrustedKeys::read(&files)?) };
    let mut names = BTreeSet::new();
    let mut sets = Vec::new();
    for text in &args.urls {
        let wanted = Wanted::parse(text, &args)?;
        let name = set_name(&args, &wanted);
        ignite_api::names::check_vm_name(&name).map_err(|error| UsageError(format!("--name: {error}")))?;
        if !names.insert(name.clone()) {
            return Err(UsageError(format!(
                "two repositories have the name {name}; follow each by an ignited of its own, with --name"
            ))
            .into());
        }
        let status_branch = args.status_branch.as_ref().map(|name| StatusBranch::new(name, &wanted.follow));
        let source = Source {
            url: wanted.url,
            follow: wanted.follow,
            path: wanted.path,
            credentials: credentials.clone(),
            trusted_keys: trusted_keys.clone(),
            deadline: args.timeout,
            environment: INHERITED
                .iter()
                .filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)))
                .collect(),
        };
        let directory = context.settings.data_dir.join("ignited").join(&name);
        let repository = GitRepository {
            checkout: open(&directory, &source).await?,
            interval: args.interval,
            status_branch: status_branch.transpose()?,
        };
        sets.push(Set { name, follow: FollowSet::Git(Box::new(repository)) });
    }
    let secret = args.webhook_secret_file.as_deref().map(read_secret).transpose()?;
    service::run(&args.service, sets, secret, None, context).await
}

/// A git that a killed `ignited` has left behind ends soon; until then the directory is its own.
async fn open(directory: &Path, source: &Source) -> Result<Checkout, GitError> {
    let deadline = tokio::time::Instant::now() + LAST_GIT;
    loop {
        match Checkout::open(directory, source.clone()) {
            Err(GitError::Busy { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            opened => return opened,
        }
    }
}

struct Wanted {
    url: RemoteUrl,
    follow: Follow,
    path: SubPath,
}

impl Wanted {
    /// `URL`, `URL#BRANCH`, `URL#BRANCH:PATH` or `URL#:PATH`.
    fn parse(text: &str, args: &Args) -> anyhow::Result<Wanted> {
        let (url, fragment) = text.rsplit_once('#').map_or((text, ""), |(url, fragment)| (url, fragment));
        let (branch, path) = fragment.split_once(':').unwrap_or((fragment, &args.path));
        let follow = match (branch, &args.branch, &args.tag, &args.commit) {
            ("", Some(branch), _, _) => Follow::branch(branch)?,
            ("", None, Some(tag), _) => Follow::tag(tag)?,
            ("", None, None, Some(commit)) => Follow::Commit(commit.parse()?),
            ("", None, None, None) => Follow::DefaultBranch,
            (branch, _, _, _) => Follow::branch(branch)?,
        };
        Ok(Wanted { url: url.parse()?, follow, path: path.parse()? })
    }
}

fn set_name(args: &Args, wanted: &Wanted) -> String {
    if let Some(name) = &args.name {
        return name.clone();
    }
    let path = wanted.path.as_str();
    let text = if path.is_empty() {
        wanted.url.repository_name().to_owned()
    } else {
        format!("{}-{path}", wanted.url.repository_name())
    };
    let name: String =
        text.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    name.trim_matches('-').chars().take(63).collect()
}

fn credentials(args: &Args, context: &Context) -> anyhow::Result<Credentials> {
    let path = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(expand);
    let mut password_file = path(&args.https_password_file);
    if let Some(password) = &args.https_password {
        report::warning("--https-password can be read by everyone on this host; use --https-password-file");
        password_file = Some(keep_password(password, context)?);
    }
    Ok(Credentials {
        identity_file: path(&args.identity_file),
        known_hosts: path(&args.hosts_file),
        username: args.https_username.clone(),
        password_file,
        ca_certificate: path(&args.https_ca_file),
    })
}

/// A file of ours for a password that was given as Weave Ignite took it.
fn keep_password(password: &str, context: &Context) -> anyhow::Result<PathBuf> {
    let dir = context.settings.data_dir.join("ignited");
    let file = dir.join("https-password");
    let write = || {
        std::fs::create_dir_all(&dir)?;
        let mut out = std::fs::File::options().create(true).write(true).truncate(true).mode(0o600).open(&file)?;
        out.write_all(password.as_bytes())
    };
    write().with_context(|| format!("could not write {}", file.display()))?;
    Ok(file)
}

/// `~` is the user's home, as Weave Ignite read it.
fn expand(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => std::path::absolute(text).unwrap_or_else(|_| PathBuf::from(text)),
    }
}

fn read_secret(path: &str) -> anyhow::Result<Vec<u8>> {
    use std::io::Read;
    let path = expand(path);
    let mut secret = Vec::new();
    let file = std::fs::File::open(&path).and_then(|file| file.take(MAX_SECRET).read_to_end(&mut secret));
    file.with_context(|| format!("could not read {}", path.display()))?;
    let secret = secret.trim_ascii().to_vec();
    if secret.is_empty() {
        return Err(UsageError(format!("{} is empty: anyone could call the webhook", path.display())).into());
    }
    Ok(secret)
}

/// Durations as Weave Ignite took them: `30s`, `1m30s`, `1h`, `500ms`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("invalid time {text:?}: such as 30s, 5m or 1m30s is expected");
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
        let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
        let (unit, len) = match &rest[digits..] {
            unit if unit.starts_with("ms") => (1, 2),
            unit if unit.starts_with('s') => (1_000, 1),
            unit if unit.starts_with('m') => (60_000, 1),
            unit if unit.starts_with('h') => (3_600_000, 1),
            _ => return Err(invalid()),
        };
        total += Duration::from_millis(number.checked_mul(unit).ok_or_else(invalid)?);
        rest = &rest[digits + len..];
    }
    if total < Duration::from_millis(100) || total > Duration::from_secs(7 * 86400) {
        Err(invalid())
    } else {
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_weave_ignite_did() {
        for (text, seconds) in [("30s", 30.0), ("1m", 60.0), ("1m30s", 90.0), ("1h", 3600.0), ("500ms", 0.5)] {
            assert_eq!(parse_duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "30", "s", "1d", "-1s", "0s", "99999999999999999999s", "1.5s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
