//! `ignite ssh`: the ssh program, connected to a VM through its agent channel, so that no network is needed.

use crate::context::Context;
use crate::report::Hinted;
use crate::signals::interruptible;
use ignite_engine::SshAccess;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Flags of `ssh`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "ignite ssh [OPTIONS] VM [COMMAND] [ARG]...")]
pub struct Args {
    /// Private key to log in with [default: the VM's generated one, else what ssh finds]
    #[arg(short, long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Seconds to wait for the VM's sshd
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u32,
    /// Ask for a terminal: true or false [default: where no command is given]
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tty: Option<bool>,
    /// User to log in as
    #[arg(short, long, value_name = "NAME", default_value = "root")]
    pub login: String,
    /// Option of ssh_config(5), as `ssh -o` takes it (may be repeated)
    #[arg(short, long = "option", value_name = "KEY=VALUE")]
    pub option: Vec<String>,
    /// Name or id
    pub vm: String,
    /// Command instead of a shell, with all that follows
    #[arg(trailing_var_arg = true)]
    pub command: Vec<String>,
}

/// Becomes the ssh program, whose exit code is that of the command in the VM.
pub async fn run(args: Args, context: &Context) -> anyhow::Result<u8> {
    let engine = context.engine()?;
    let uid = engine.find_vm(&args.vm)?;
    let access = interruptible(engine.ssh_access(&uid, Duration::from_secs(args.timeout.into()))).await?;
    let own_program = std::env::current_exe()?;
    let proxy = proxy_command(&[
        own_program.as_os_str(),
        OsStr::new("--data-dir"),
        context.settings.data_dir.as_os_str(),
        OsStr::new("--run-dir"),
        context.settings.run_dir.as_os_str(),
        OsStr::new("proxy"),
        OsStr::new(&access.host),
    ]);
    let arguments = arguments(&args, &access, proxy)?;
    // ssh hands its ProxyCommand to $SHELL.
    let error = Command::new("ssh").args(arguments).env("SHELL", "/bin/sh").exec();
    let hint = "install it (Debian: apt install openssh-client), or use: ignite exec -it VM sh".to_owned();
    Err(anyhow::Error::new(Hinted { message: format!("could not start ssh: {error}"), hint }))
}

/// What ssh is told; nothing of the user's own configuration, which is made for other hosts.
fn arguments(args: &Args, access: &SshAccess, proxy: OsString) -> anyhow::Result<Vec<OsString>> {
    let mut known_hosts = OsString::from("UserKnownHostsFile=");
    known_hosts.push(quoted(&access.known_hosts)?);
    let mut arguments: Vec<OsString> = vec!["-F".into(), "none".into()];
    let mut option = |text: OsString| arguments.extend(["-o".into(), text]);
    // The first value of an option counts for ssh: the user's come first.
    args.option.iter().for_each(|text| option(text.into()));
    option(proxy);
    option(known_hosts);
    for text in [
        "GlobalKnownHostsFile=none",
        "StrictHostKeyChecking=yes",
        "UpdateHostKeys=no",
        "CheckHostIP=no",
        "LogLevel=ERROR",
    ] {
        option(text.into());
    }
    option(format!("HostKeyAlias={}", access.host).into());
    option(format!("ConnectTimeout={}", args.timeout.max(1)).into());
    if let Some(identity) = args.identity.as_ref().or(access.identity.as_ref()) {
        option("IdentitiesOnly=yes".into());
        let mut text = OsString::from("IdentityFile=");
        text.push(quoted(identity)?);
        option(text);
    }
    match args.tty {
        Some(true) => arguments.push("-t".into()),
        Some(false) => arguments.push("-T".into()),
        None => {}
    }
    arguments.extend(["-l".into(), args.login.clone().into(), "--".into(), access.host.clone().into()]);
    arguments.extend(args.command.iter().map(OsString::from));
    Ok(arguments)
}

/// The program and its arguments for a shell, with the port at the end.
fn proxy_command(words: &[&OsStr]) -> OsString {
    let mut text = b"ProxyCommand=".to_vec();
    for word in words {
        text.extend(b"'");
        for byte in word.as_bytes() {
            match byte {
                b'\'' => text.extend(br"'\''"),
                b'%' => text.extend(b"%%"),
                byte => text.push(*byte),
            }
        }
        text.extend(b"' ");
    }
    text.extend(b"%p");
    OsString::from_vec(text)
}

/// A path as a value of ssh_config(5).
fn quoted(path: &Path) -> Result<OsString, Hinted> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.iter().any(|byte| matches!(byte, b'"' | b'\n')) || bytes.windows(2).any(|pair| pair == b"${") {
        let message = format!("ssh cannot be given the path {}", path.display());
        return Err(Hinted { message, hint: "use a directory without quotes and ${ in its name".into() });
    }
    let mut text = vec![b'"'];
    for byte in bytes {
        text.push(*byte);
        if *byte == b'%' {
            text.push(b'%');
        }
    }
    text.push(b'"');
    Ok(OsString::from_vec(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn told(line: &str) -> String {
        let Some(Command::Ssh(args)) = Cli::try_parse_from(line.split(' ')).expect(line).command else { panic!() };
        let access = SshAccess {
            host: "0123456789abcdef".into(),
            known_hosts: "/data dir/100%/known_hosts".into(),
            identity: Some("/data dir/100%/id".into()),
        };
        let proxy = proxy_command(&[OsStr::new("/it's/ig%nite"), OsStr::new("proxy"), OsStr::new("vm")]);
        let arguments = arguments(&args, &access, proxy).expect(line);
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        words.join("\n").replace("-o\n", "-o ")
    }

    #[test]
    fn ssh_is_told_the_pinned_host_key_and_the_way_through_the_agent() {
        insta::assert_snapshot!(told("ignite ssh vm"), @r#"
        -F
        none
        -o ProxyCommand='/it'\''s/ig%%nite' 'proxy' 'vm' %p
        -o UserKnownHostsFile="/data dir/100%%/known_hosts"
        -o GlobalKnownHostsFile=none
        -o StrictHostKeyChecking=yes
        -o UpdateHostKeys=no
        -o CheckHostIP=no
        -o LogLevel=ERROR
        -o HostKeyAlias=0123456789abcdef
        -o ConnectTimeout=30
        -o IdentitiesOnly=yes
        -o IdentityFile="/data dir/100%%/id"
        -l
        root
        --
        0123456789abcdef
        "#);
    }

    #[test]
    fn flags_become_ssh_s() {
        let ends = |line: &str| told(line).replace('\n', " ");
        assert!(ends("ignite ssh -t vm uname -a").ends_with(" -t -l root -- 0123456789abcdef uname -a"));
        assert!(ends("ignite ssh --tty=false -l me vm").ends_with(" -T -l me -- 0123456789abcdef"));
        assert!(ends("ignite ssh vm -t uname -t").ends_with(" -t -l root -- 0123456789abcdef uname -t"));
        assert!(ends("ignite ssh -i /k vm").contains("IdentityFile=\"/k\""));
        assert!(ends("ignite ssh --timeout 5 vm").contains("ConnectTimeout=5"));
        assert!(ends("ignite ssh -o ForwardAgent=yes vm").starts_with("-F none -o ForwardAgent=yes -o ProxyCommand"));
    }

    #[test]
    fn paths_that_ssh_would_misread_are_refused() {
        assert!(quoted(Path::new("/a\"b")).is_err());
        assert!(quoted(Path::new("/${HOME}")).is_err());
    }
}
