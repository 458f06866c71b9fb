//! `--network`, `--runtime`, `--id-prefix`: what manifests leave open, over the configuration file.

use ignite::commands::pull_source::Runtime;
use ignite::report::UsageError;
use ignite::settings::Settings;
use ignite_api::validation::check_id_prefix;

/// Flags before or after the command, as Weave Ignite's `ignited` had them.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
#[group(skip)]
pub struct VmDefaults {
    /// Network of VMs whose manifest names none
    #[arg(long, global = true, alias = "network-plugin", value_name = "MODE")]
    pub network: Option<String>,
    /// Where images come from when a reference is bare
    #[arg(long, global = true, value_enum, value_name = "SOURCE", hide_short_help = true)]
    pub runtime: Option<Runtime>,
    /// Kept and shown as `status.idPrefix`
    #[arg(long, global = true, value_name = "PREFIX", hide = true)]
    pub id_prefix: Option<String>,
}

impl VmDefaults {
    /// Sets what was given.
    pub fn apply(&self, settings: &mut Settings) -> anyhow::Result<()> {
        if let Some(mode) = &self.network {
            settings.vm_defaults.network.mode = (mode != "auto").then(|| mode.clone());
        }
        if let Some(prefix) = &self.id_prefix {
            check_id_prefix(prefix).map_err(UsageError)?;
            settings.id_prefix = Some(prefix.clone());
        }
        settings.runtime = self.runtime.unwrap_or(settings.runtime);
        Ok(())
    }
}
