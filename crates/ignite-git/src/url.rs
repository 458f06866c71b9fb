//! Where a repository is: the addresses of git-clone(1), "GIT URLS", less those that are not safe to follow unattended.

use crate::GitError;
use std::fmt;
use std::str::FromStr;

/// Longest address that is read.
const MAX_LEN: usize = 2048;

/// How a repository is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// `ssh://[USER@]HOST[:PORT]/PATH` or `[USER@]HOST:PATH`.
    Ssh,
    /// `https://HOST[:PORT]/PATH`.
    Https,
    /// `file:///PATH` or `/PATH`.
    File,
}

/// The address of a repository, as git takes it. It holds no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteUrl {
    text: String,
    transport: Transport,
    /// `HOST` or `HOST:PORT`; empty for a file.
    authority: String,
}

impl RemoteUrl {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How it is reached.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// `HOST` or `HOST:PORT`, without a user; empty for a file.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Last component of the path without `.git`: what people call the repository.
    pub fn repository_name(&self) -> &str {
        let path = self.text.trim_end_matches('/');
        let name = path.rsplit(['/', ':']).next().unwrap_or(path);
        name.strip_suffix(".git").unwrap_or(name)
    }

    fn new(text: &str, transport: Transport, authority: &str) -> RemoteUrl {
        RemoteUrl { text: text.to_owned(), transport, authority: authority.to_owned() }
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for RemoteUrl {
    type Err = GitError;

    fn from_str(text: &str) -> Result<RemoteUrl, GitError> {
        let bad = |reason: &'static str| GitError::BadUrl { url: without_password(text), reason };
        if text.len() > MAX_LEN {
            return Err(bad("it is too long"));
        }
        if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad("it is empty or holds white space"));
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return match scheme {
                "ssh" => {
                    let (authority, _) = authority_of(rest).ok_or(bad("it names no host and path"))?;
                    let (user, host) = user_and_host(authority);
                    check_host(host, user).map_err(bad)?;
                    Ok(RemoteUrl::new(text, Transport::Ssh, host))
                }
                "https" => {
                    let (authority, _) = authority_of(rest).ok_or(bad("it names no host and path"))?;
                    let (user, host) = user_and_host(authority);
                    check_host(host, user).map_err(bad)?;
                    Ok(RemoteUrl::new(text, Transport::Https, host))
                }
                "file" if rest.starts_with('/') => Ok(RemoteUrl::new(text, Transport::File, "")),
                "file" => Err(bad("a file has an absolute path: file:///PATH")),
                "http" | "git" => Err(bad("what it carries can be changed on its way; use https or ssh")),
                _ => Err(bad("ssh, https and file are known")),
            };
        }
        if text.starts_with('/') {
            return Ok(RemoteUrl::new(text, Transport::File, ""));
        }
        // gitremote-helpers(7): `HELPER::ADDRESS` runs a program.
        if text.split_once("::").is_some_and(|(helper, _)| !helper.contains(['[', '/'])) {
            return Err(bad("ssh, https and file are known"));
        }
        // git-clone(1): the short form of ssh has no slash before its first colon.
        match text.split_once(':') {
            Some((authority, path)) if !authority.contains('/') && !path.is_empty() => {
                let (user, host) = user_and_host(authority);
                check_host(host, user).map_err(bad)?;
                Ok(RemoteUrl::new(text, Transport::Ssh, host))
            }
            _ => Err(bad("write ssh://HOST/PATH, HOST:PATH, https://HOST/PATH or /PATH")),
        }
    }
}

/// The address as it may be shown.
fn without_password(text: &str) -> String {
    let shown: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    let Some((before, rest)) = shown.split_once("://") else { return shown };
    let Some((authority, path)) = rest.split_once('/') else { return shown };
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => format!("{before}://…@{host}/{path}"),
        _ => shown,
    }
}

fn authority_of(rest: &str) -> Option<(&str, &str)> {
    rest.split_once('/').filter(|(authority, path)| !authority.is_empty() && !path.is_empty())
}

fn user_and_host(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    }
}

/// A host or user that begins with `-` would be an option of ssh.
fn check_host(host: &str, user: Option<&str>) -> Result<(), &'static str> {
    if host.is_empty() || host.starts_with('-') || user.is_some_and(|user| user.is_empty() || user.starts_with('-')) {
        return Err("its host or user is not one");
    }
    if user.is_some_and(|user| user.contains(':')) {
        return Err("a password does not belong into an address; give it by a file");
    }
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-._~:[]%".contains(c);
    if host.chars().all(is_fine) { Ok(()) } else { Err("its host is not one") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_of_the_three_transports_are_read() {
        let table = [
            ("ssh://git@example.org:2222/team/stack.git", Transport::Ssh, "example.org:2222", "stack"),
            ("git@example.org:team/stack.git", Transport::Ssh, "example.org", "stack"),
            ("example.org:stack", Transport::Ssh, "example.org", "stack"),
            ("ssh://[::1]:22/srv/stack/", Transport::Ssh, "[::1]:22", "stack"),
            ("https://example.org/team/stack", Transport::Https, "example.org", "stack"),
            ("https://me@example.org:8443/stack.git", Transport::Https, "example.org:8443", "stack"),
            ("file:///srv/git/stack.git", Transport::File, "", "stack"),
            ("/srv/git/stack", Transport::File, "", "stack"),
        ];
        for (text, transport, authority, name) in table {
            let url: RemoteUrl = text.parse().unwrap();
            assert_eq!(
                (url.transport(), url.authority(), url.repository_name()),
                (transport, authority, name),
                "{text}"
            );
            assert_eq!(url.as_str(), text);
        }
    }

    #[test]
    fn other_addresses_are_refused_with_the_reason() {
        let table = [
            ("", "empty"),
            ("http://example.org/x", "https or ssh"),
            ("git://example.org/x", "https or ssh"),
            ("ext::sh -c touch% /tmp/x", "white space"),
            ("ext::ssh[x", "are known"),
            ("ext::sh", "are known"),
            ("ftp://example.org/x", "are known"),
            ("file://relative", "absolute"),
            ("relative/path", "write ssh"),
            ("ssh://-oProxyCommand=x/y", "host or user"),
            ("ssh://-x@example.org/y", "host or user"),
            ("-oProxyCommand=x:y", "host or user"),
            ("https://me:secret@example.org/x", "by a file"),
            ("https://example.org", "host and path"),
            ("https://exa$mple.org/x", "is not one"),
            ("https://example.org/a b", "white space"),
        ];
        for (text, reason) in table {
            let error = text.parse::<RemoteUrl>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error(text in "\\PC*") {
            if let Ok(url) = text.parse::<RemoteUrl>() {
                prop_assert!(!url.as_str().starts_with('-'));
            }
        }
    }
}
