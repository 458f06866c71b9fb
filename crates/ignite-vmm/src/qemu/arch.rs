//! What differs between the architectures QEMU runs here.

/// One architecture's names and needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arch {
    /// File name of QEMU's program.
    pub(crate) program: &'static str,
    /// Debian's package of it.
    pub(crate) package: &'static str,
    /// Value of `-machine`.
    pub(crate) machine: &'static str,
    /// Firmware that is not the machine's own default.
    pub(crate) firmware: Option<&'static str>,
    /// CPU model under software emulation.
    pub(crate) tcg_cpu: &'static str,
    /// Kernel arguments without which a guest does not boot, end or talk.
    pub(crate) kernel_arguments: &'static [&'static str],
    /// Kernel arguments that software emulation needs, apart from the clock's.
    pub(crate) tcg_kernel_arguments: &'static [&'static str],
    /// A panic is told by the ISA `pvpanic` device.
    pub(crate) has_isa_pvpanic: bool,
    /// The guest's clock is the host's time stamp counter.
    pub(crate) has_tsc: bool,
    /// Virtio devices the machine has room for.
    pub(crate) virtio_slots: usize,
}

/// x86-64 on `microvm`: ACPI stays on (Debian kernels find virtio-mmio only through it), PCI is off.
pub(crate) const X86_64: Arch = Arch {
    program: "qemu-system-x86_64",
    package: "qemu-system-x86",
    // qboot hands over to a PVH kernel without option ROMs; with ACPI's tables no guest needs the PIT or the PIC.
    machine: "microvm,rtc=on,acpi=on,pcie=off,x-option-roms=off,pit=off,pic=off,dump-guest-core=off",
    firmware: Some("qboot.rom"),
    // The cheapest model to boot that still is x86-64-v2, which RHEL 9 and its kin need.
    tcg_cpu: "qemu64,+cx16,+lahf_lm,+popcnt,+ssse3,+sse4.1,+sse4.2,+rdrand",
    // `reboot=t`: microvm has no keyboard controller to reset by, a triple fault is immediate. `panic=-1`: at once.
    kernel_arguments: &[
        "console=ttyS0",
        "reboot=t",
        "panic=-1",
        "pci=off",
        "8250.nr_uarts=1",
        "i8042.noaux",
        "i8042.nomux",
        "i8042.nopnp",
        "i8042.dumbkbd",
        "random.trust_cpu=on",
    ],
    // Mitigations cost a tenth of the boot and protect nothing here: translated code is not what they were made for.
    tcg_kernel_arguments: &["nokaslr", "cryptomgr.notests", "no_timer_check", "mitigations=off"],
    has_isa_pvpanic: true,
    has_tsc: true,
    virtio_slots: 24,
};

/// aarch64 on `virt`.
pub(crate) const AARCH64: Arch = Arch {
    program: "qemu-system-aarch64",
    package: "qemu-system-arm",
    machine: "virt,gic-version=max,dump-guest-core=off",
    firmware: None,
    tcg_cpu: "max,pauth-impdef=on",
    kernel_arguments: &["console=ttyAMA0", "panic=-1", "random.trust_cpu=on"],
    tcg_kernel_arguments: &["nokaslr", "cryptomgr.notests"],
    has_isa_pvpanic: false,
    has_tsc: false,
    virtio_slots: 32,
};

/// This build's own; `None` where no machine was chosen yet.
pub(crate) const HOST: Option<&Arch> = if cfg!(target_arch = "x86_64") {
    Some(&X86_64)
} else if cfg!(target_arch = "aarch64") {
    Some(&AARCH64)
} else {
    None
};
