//! Flags of Weave Ignite that have nothing left to do: accepted, and said to be without effect.

use crate::context::Context;
use std::path::PathBuf;

/// Of `run`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Run {
    /// Of `run` and `start`.
    #[command(flatten)]
    pub preflight: Preflight,
    /// There is no container to keep; logs stay anyway
    #[arg(long, hide = true)]
    pub debug: bool,
}

/// Of `run` and `start`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Preflight {
    /// Nothing is checked that a start could do without
    #[arg(long, value_name = "CHECK", value_delimiter = ',', hide = true)]
    pub ignore_preflight_checks: Vec<String>,
}

/// Of `start`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Start {
    /// Of `run` and `start`.
    #[command(flatten)]
    pub preflight: Preflight,
    /// There is no container to keep; logs stay anyway
    #[arg(short, long, hide = true)]
    pub debug: bool,
    /// Images are at hand when a VM starts
    #[arg(long, value_name = "RUNTIME", hide = true)]
    pub runtime: Option<String>,
    /// A VM keeps the network it was created with
    #[arg(long, value_name = "MODE", hide = true)]
    pub network_plugin: Option<String>,
}

/// Of `cp`, which went over ssh.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Cp {
    /// The agent asks for no key
    #[arg(short, long, value_name = "FILE", hide = true)]
    pub identity: Option<PathBuf>,
    /// Nothing is dialled
    #[arg(long, value_name = "SECONDS", hide = true)]
    pub timeout: Option<u32>,
}

/// Of `exec`, which went over ssh; `-i` is Docker's there.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Ssh {
    /// The agent asks for no key
    #[arg(long, value_name = "FILE", hide = true)]
    pub identity: Option<PathBuf>,
    /// Nothing is dialled
    #[arg(long, value_name = "SECONDS", hide = true)]
    pub timeout: Option<u32>,
}

impl Preflight {
    /// Says which were given for nothing.
    pub fn tell(&self, context: &Context) {
        tell(
            context,
            !self.ignore_preflight_checks.is_empty(),
            "--ignore-preflight-checks has no effect: nothing is checked that a start could do without",
        );
    }
}

impl Run {
    /// Says which were given for nothing.
    pub fn tell(&self, context: &Context) {
        self.preflight.tell(context);
        tell(context, self.debug, "--debug has no effect: there is no container to keep; see ignite logs --console");
    }
}

impl Start {
    /// Says which were given for nothing.
    pub fn tell(&self, context: &Context) {
        Run { preflight: self.preflight.clone(), debug: self.debug }.tell(context);
        tell(context, self.runtime.is_some(), "--runtime has no effect: a VM's image is at hand when it starts");
        let message = "--network-plugin has no effect: a VM keeps the network it was created with";
        tell(context, self.network_plugin.is_some(), message);
    }
}

impl Cp {
    /// Says which were given for nothing.
    pub fn tell(&self, context: &Context) {
        Ssh { identity: self.identity.clone(), timeout: self.timeout }.tell(context);
    }
}

impl Ssh {
    /// Says which were given for nothing.
    pub fn tell(&self, context: &Context) {
        tell(context, self.identity.is_some(), "--identity has no effect: the agent in the VM asks for no key");
        tell(context, self.timeout.is_some(), "--timeout has no effect: the agent in the VM is connected already");
    }
}

fn tell(context: &Context, is_given: bool, message: &str) {
    if is_given {
        context.tell_notes(&[message.to_owned()]);
    }
}
