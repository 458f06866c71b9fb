//! What makes a VM's memory pages or its CPU template invalid.

use super::{Check, quoted, why_not_a_path};
use crate::Size;
use crate::machine_options::{CPU_TEMPLATES, HugePages};
use crate::vm::VmSpec;

impl Check {
    pub(super) fn machine_options(&mut self, path: &str, spec: &VmSpec) {
        if spec.huge_pages == HugePages::TwoMib {
            let are_whole = spec.memory.as_bytes().is_multiple_of(Size::mib(2).as_bytes());
            let reason = "must be a multiple of 2 MB with huge pages of that size";
            self.invalid_unless(are_whole, format!("{path}.memory"), spec.memory.to_string(), reason);
        }
        if let Some(template) = &spec.cpu_template {
            let is_known = CPU_TEMPLATES.contains(&template.as_str())
                || (template.starts_with('/') && why_not_a_path(template).is_none());
            let reason = format!("must be one of {} or the absolute path of a file", CPU_TEMPLATES.join(", "));
            self.invalid_unless(is_known, format!("{path}.cpuTemplate"), quoted(template), reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::validate_vm;
    use crate::{ObjectMeta, Vm};

    #[test]
    fn pages_are_whole_and_templates_known() {
        let said = |memory, huge_pages, template: Option<&str>| {
            let mut spec =
                VmSpec { memory, huge_pages, cpu_template: template.map(str::to_owned), ..VmSpec::default() };
            spec.image.oci = "redis".parse().ok();
            let vm = Vm::new(ObjectMeta { name: "web".into(), ..ObjectMeta::default() }, spec);
            validate_vm(&vm).err().map(|error| error.to_string()).unwrap_or_default()
        };
        for (memory, pages, template, expected) in [
            (Size::mib(512), HugePages::TwoMib, Some("T2"), ""),
            (Size::mib(513), HugePages::None, Some("/etc/template.json"), ""),
            (Size::mib(513), HugePages::TwoMib, None, "spec.memory: Invalid value: 513"),
            (
                Size::mib(512),
                HugePages::None,
                Some("T3"),
                "spec.cpuTemplate: Invalid value: \"T3\": must be one of C3,",
            ),
            (Size::mib(512), HugePages::None, Some("../template"), "spec.cpuTemplate"),
            (Size::mib(512), HugePages::None, Some(""), "spec.cpuTemplate"),
        ] {
            let said = said(memory, pages, template);
            assert!(said.starts_with(expected) && said.is_empty() == expected.is_empty(), "{said}");
        }
    }
}
