//! Which VMM runs a VM: the first of the table that can, or the one that was asked for; and why.

use crate::boot_spec::Carrier;
use crate::drivers::{self, Programs};
use crate::machine::{Capabilities, Driver, VmmError};
use std::sync::Arc;

/// What a VM needs of its VMM, as far as that tells VMMs apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// What its network can hand over, preferred first; empty: it has no interface.
    pub carriers: Vec<Carrier>,
    /// How its network is called, for those who read why.
    pub network: String,
    /// Why its network has no tap, where this host is the reason.
    pub why_no_tap: Option<String>,
    /// Its kernel lacks virtio sockets.
    pub lacks_vsock: bool,
    /// Its kernel does not find devices that are named on its command line only.
    pub lacks_mmio_cmdline: bool,
    /// Its traffic is to be limited, which its network does not do.
    pub limits_traffic: bool,
    /// Its memory is to be of huge pages.
    pub huge_pages: bool,
    /// It is to have a template of what it sees of the processor.
    pub cpu_template: bool,
}

/// What to do where nobody limits a VM's traffic.
pub(crate) const TRAFFIC_HINT: &str =
    "use a CNI network whose list has the plugin bandwidth (--network cni:NAME), or leave out the limit";

/// Why, and what to do, where a VMM has no huge pages.
pub(crate) const NO_HUGE_PAGES: &str = "this version boots no guest with an initramfs on huge pages";
pub(crate) const HUGE_PAGES_HINT: &str =
    "use Firecracker 1.11 or newer or QEMU (--vmm qemu), or go without --hugepages";
/// Why, and what to do, where a VMM has no CPU templates.
pub(crate) const NO_CPU_TEMPLATES: &str = "it has no CPU templates";
pub(crate) const CPU_TEMPLATE_HINT: &str =
    "CPU templates are Firecracker's (--vmm firecracker, where KVM runs guests); or go without --cpu-template";

/// Refuses a drive as persistent memory: who asks has not looked at [`Capabilities::has_pmem`].
pub(crate) fn no_pmem(vmm: &str) -> VmmError {
    let why = "this version has no persistent memory".to_owned();
    VmmError::Unfit { vmm: vmm.to_owned(), why, hint: "give it the file as a disk".to_owned() }
}

/// The VMM for a VM.
pub struct Choice {
    /// Its driver.
    pub driver: Arc<dyn Driver>,
    /// What it can do here.
    pub capabilities: Capabilities,
    /// Why it was chosen: one line.
    pub reason: String,
    /// A line for the user: a better one is installed and cannot run this VM.
    pub note: Option<String>,
}

/// Chooses. `wanted`: absent or `auto`: the first that can. An error says what is missing and what to do.
pub fn choose(wanted: Option<&str>, programs: &Programs, needs: &Needs) -> Result<Choice, VmmError> {
    let wanted = wanted.filter(|name| *name != "auto");
    let mut drivers = drivers::all(programs);
    if let Some(name) = wanted {
        drivers.retain(|driver| driver.name() == name);
    }
    let asked: Vec<(&str, Result<Capabilities, VmmError>)> =
        drivers.iter().map(|driver| (driver.name(), driver.capabilities())).collect();
    let Decided { index, capabilities, reason, note } = decide(wanted, asked, needs)?;
    Ok(Choice { driver: drivers.swap_remove(index), capabilities, reason, note })
}

#[derive(Debug)]
struct Decided {
    index: usize,
    capabilities: Capabilities,
    reason: String,
    note: Option<String>,
}

fn decide(
    wanted: Option<&str>,
    asked: Vec<(&str, Result<Capabilities, VmmError>)>,
    needs: &Needs,
) -> Result<Decided, VmmError> {
    let mut refusals: Vec<String> = Vec::new();
    let mut note = None;
    let mut last = None;
    for (index, (name, capabilities)) in asked.into_iter().enumerate() {
        match capabilities.and_then(|capabilities| meets(name, &capabilities, needs).map(|()| capabilities)) {
            Ok(capabilities) => {
                let reason = match (wanted, refusals.is_empty()) {
                    (Some(_), _) => "it was asked for".to_owned(),
                    (None, true) => "the preferred one".to_owned(),
                    (None, false) => refusals.join("; "),
                };
                return Ok(Decided { index, capabilities, reason, note });
            }
            Err(error) => {
                // One that is not installed is not missed at each start, and of KVM the VMM that takes over speaks.
                if let (VmmError::Unfit { .. }, None) = (&error, &note) {
                    note = Some(error.to_string());
                }
                refusals.push(error.to_string());
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| VmmError::Unsupported {
        what: format!("unknown VMM {:?}", wanted.unwrap_or("auto")),
        hint: format!("use one of: auto, {}", drivers::names().join(", ")),
    }))
}

/// Whether a VMM that works here can run this VM.
fn meets(name: &str, capabilities: &Capabilities, needs: &Needs) -> Result<(), VmmError> {
    let unfit = |why: String, hint: &str| Err(VmmError::Unfit { vmm: name.to_owned(), why, hint: hint.to_owned() });
    let is_served = needs.carriers.iter().any(|carrier| capabilities.carriers.contains(carrier));
    if !needs.carriers.is_empty() && !is_served {
        let hint = "give it a network by tap (--network cni), or let QEMU run it (--vmm qemu)";
        let why_no_tap = needs.why_no_tap.as_ref().map(|why| format!(" without a tap: {why}")).unwrap_or_default();
        return unfit(format!("it does not serve the network {:?}{why_no_tap}", needs.network), hint);
    }
    let other = "use another kernel (ignite kernel ls, then --kernel NAME), or let QEMU run it (--vmm qemu)";
    if capabilities.needs_vsock && needs.lacks_vsock {
        return unfit("the VM's kernel has no virtio sockets".to_owned(), other);
    }
    if !capabilities.describes_devices && needs.lacks_mmio_cmdline {
        return unfit(
            "this version names devices on the kernel's command line, which the VM's does not read".to_owned(),
            other,
        );
    }
    if needs.huge_pages && !capabilities.has_huge_pages {
        return unfit(NO_HUGE_PAGES.to_owned(), HUGE_PAGES_HINT);
    }
    if needs.cpu_template && !capabilities.has_cpu_templates {
        return unfit(NO_CPU_TEMPLATES.to_owned(), CPU_TEMPLATE_HINT);
    }
    if needs.limits_traffic && !capabilities.limits_traffic {
        let why = format!("it does not limit a VM's traffic, nor does the network {:?}", needs.network);
        return unfit(why, TRAFFIC_HINT);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot_spec::{Accelerator, DriveLocator};

    fn firecracker() -> Capabilities {
        Capabilities {
            accelerator: Accelerator::Kvm,
            accelerator_note: None,
            program: "/usr/bin/firecracker".into(),
            drive_locator: DriveLocator::Index,
            carriers: vec![Carrier::Tap],
            needs_vsock: true,
            describes_devices: true,
            limits_traffic: true,
            has_pmem: true,
            has_huge_pages: true,
            has_cpu_templates: true,
            max_vcpu_count: 32,
        }
    }

    fn qemu() -> Capabilities {
        Capabilities {
            carriers: vec![Carrier::TapQueue, Carrier::Stream],
            needs_vsock: false,
            limits_traffic: false,
            has_cpu_templates: false,
            drive_locator: DriveLocator::Serial,
            ..firecracker()
        }
    }

    fn missing() -> VmmError {
        VmmError::ProgramMissing { program: "firecracker".into(), hint: "install it".into() }
    }

    fn needs(carriers: &[Carrier]) -> Needs {
        Needs { carriers: carriers.to_vec(), network: "user".into(), ..Needs::default() }
    }

    fn auto(firecracker: Result<Capabilities, VmmError>, needs: &Needs) -> Decided {
        decide(None, vec![("firecracker", firecracker), ("qemu", Ok(qemu()))], needs).unwrap()
    }

    #[test]
    fn the_first_that_can_is_taken_and_the_others_refusals_are_kept() {
        let tap = needs(&[Carrier::TapQueue, Carrier::Tap]);
        for (asked, needs, index, reason, has_note) in [
            (Ok(firecracker()), needs(&[]), 0, "the preferred one", false),
            (Ok(firecracker()), tap.clone(), 0, "the preferred one", false),
            (Ok(firecracker()), needs(&[Carrier::Stream, Carrier::Tap]), 0, "the preferred one", false),
            (Ok(firecracker()), needs(&[Carrier::Stream]), 1, "firecracker: it does not serve", true),
            (
                Ok(firecracker()),
                Needs { why_no_tap: Some("no tun".into()), ..needs(&[Carrier::Stream]) },
                1,
                "the network \"user\" without a tap: no tun",
                true,
            ),
            (Ok(firecracker()), Needs { lacks_vsock: true, ..tap.clone() }, 1, "no virtio sockets", true),
            (
                Ok(Capabilities { describes_devices: false, ..firecracker() }),
                Needs { lacks_mmio_cmdline: true, ..tap.clone() },
                1,
                "command line",
                true,
            ),
            (Err(missing()), tap.clone(), 1, "firecracker is not installed", false),
        ] {
            let decided = auto(asked, &needs);
            assert_eq!((decided.index, decided.note.is_some()), (index, has_note), "{decided:?}");
            assert!(decided.reason.contains(reason) && !decided.reason.contains('\n'), "{decided:?}");
        }
    }

    #[test]
    fn one_that_was_asked_for_is_taken_or_refused_with_a_hint() {
        let ask = |needs: &Needs| decide(Some("firecracker"), vec![("firecracker", Ok(firecracker()))], needs);
        assert_eq!(ask(&needs(&[Carrier::Tap])).unwrap().reason, "it was asked for");
        let refused = ask(&needs(&[Carrier::Stream])).unwrap_err();
        assert!(matches!(&refused, VmmError::Unfit { hint, .. } if hint.contains("--network cni")), "{refused:?}");
        let unknown = decide(Some("xen"), Vec::new(), &needs(&[])).unwrap_err();
        assert!(matches!(&unknown, VmmError::Unsupported { hint, .. } if hint.contains("firecracker, qemu")));
    }

    #[test]
    fn what_a_vmm_lacks_of_a_wish_is_said_by_name() {
        let old = || Ok(Capabilities { has_huge_pages: false, ..firecracker() });
        let huge = Needs { huge_pages: true, ..needs(&[]) };
        let decided = auto(old(), &huge);
        assert!(decided.index == 1 && decided.reason.contains("huge pages"), "{decided:?}");
        assert_eq!(auto(Ok(firecracker()), &huge).index, 0);
        let template = Needs { cpu_template: true, ..needs(&[]) };
        assert_eq!(auto(Ok(firecracker()), &template).index, 0);
        let refused = decide(None, vec![("firecracker", Err(missing())), ("qemu", Ok(qemu()))], &template).unwrap_err();
        assert!(
            matches!(&refused, VmmError::Unfit { vmm, hint, .. } if vmm == "qemu" && hint.contains("Firecracker's"))
        );
    }

    #[test]
    fn traffic_is_limited_by_somebody_or_the_vm_is_refused() {
        let limited = Needs { limits_traffic: true, ..needs(&[Carrier::TapQueue, Carrier::Tap]) };
        assert_eq!(auto(Ok(firecracker()), &limited).index, 0);
        let refused = decide(None, vec![("firecracker", Err(missing())), ("qemu", Ok(qemu()))], &limited).unwrap_err();
        assert!(matches!(&refused, VmmError::Unfit { vmm, hint, .. } if vmm == "qemu" && hint.contains("bandwidth")));
    }
}
