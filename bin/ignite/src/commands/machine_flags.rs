//! Flags for what a VM's memory is made of and what it sees of the processor.

use ignite_api::VmSpec;
use ignite_api::machine_options::CPU_TEMPLATES;
use ignite_api::vm::HugePages;
use std::path::Path;

/// The word that takes a template away.
const NO_TEMPLATE: &str = "none";

/// Flags of `run`, `create` and `update`.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct MachineFlags {
    /// Memory of the huge pages that the host has set aside: 2M, or none; of a running VM from its next start on [default: none]
    #[arg(long, value_name = "SIZE", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "2M")]
    pub hugepages: Option<HugePagesFlag>,
    /// What it sees of the processor: a CPU template of Firecracker (C3, T2, T2A, T2CL, T2S, V1N1) or a FILE with one, or none; of a running VM from its next start on [default: none]
    #[arg(long, value_name = "NAME|FILE")]
    pub cpu_template: Option<String>,
}

/// `--hugepages`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HugePagesFlag {
    /// Pages as the host has them
    None,
    /// Pages of 2 MiB
    #[value(name = "2M")]
    TwoMib,
}

impl MachineFlags {
    /// The pages that are wanted, if it was said.
    pub fn huge_pages(&self) -> Option<HugePages> {
        Some(match self.hugepages? {
            HugePagesFlag::None => HugePages::None,
            HugePagesFlag::TwoMib => HugePages::TwoMib,
        })
    }

    /// The template that is wanted, or that none is, if it was said.
    pub fn cpu_template(&self, working_dir: &Path) -> Option<Option<String>> {
        Some(match self.cpu_template.as_deref()? {
            NO_TEMPLATE => None,
            name if CPU_TEMPLATES.contains(&name) => Some(name.to_owned()),
            path => Some(working_dir.join(path).display().to_string()),
        })
    }

    /// Puts what was given over what is there.
    pub fn apply(&self, spec: &mut VmSpec, working_dir: &Path) {
        spec.huge_pages = self.huge_pages().unwrap_or(spec.huge_pages);
        if let Some(template) = self.cpu_template(working_dir) {
            spec.cpu_template = template;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_and_the_rest_are_files_beside_the_caller() {
        let mut spec = VmSpec::default();
        let mut apply = |hugepages, cpu_template: Option<&str>| {
            let flags = MachineFlags { hugepages, cpu_template: cpu_template.map(str::to_owned) };
            flags.apply(&mut spec, Path::new("/home/me"));
            (spec.huge_pages, spec.cpu_template.clone())
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(apply(Some(HugePagesFlag::TwoMib), Some("T2CL")), (HugePages::TwoMib, text("T2CL")));
        assert_eq!(apply(None, None), (HugePages::TwoMib, text("T2CL")));
        assert_eq!(apply(None, Some("t.json")), (HugePages::TwoMib, text("/home/me/t.json")));
        assert_eq!(apply(None, Some("/etc/t.json")), (HugePages::TwoMib, text("/etc/t.json")));
        assert_eq!(apply(Some(HugePagesFlag::None), Some("none")), (HugePages::None, None));
    }
}
