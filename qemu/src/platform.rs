//! The machines that a guest can be: which emulator, which processor, what each of them cannot do.

/// A processor architecture, named as Rust and `uname -m` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit PCs.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// Every architecture that guests can have.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    /// As Rust and `uname -m` call it.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// The architecture of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// The architecture of the machine that this program runs on, where it is one of ours.
    pub fn of_host() -> Option<Self> {
        Self::from_name(std::env::consts::ARCH)
    }

    pub(crate) fn emulator(self) -> &'static str {
        match self {
            Arch::X86_64 => "qemu-system-x86_64",
            Arch::Aarch64 => "qemu-system-aarch64",
        }
    }
}

/// What QEMU imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// A PC of 2009 with PCI Express and SATA (`q35`).
    Pc,
    /// ARM's machine that exists only in QEMU: PCI Express, and a device tree of its own (`virt`).
    Virt,
    /// A Raspberry Pi 3 B (`raspi3b`): 1 GiB, four processors, an SD card, no PCI.
    RaspberryPi3,
}

impl Platform {
    /// The machine of this architecture that has everything virtual.
    pub fn of(arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Platform::Pc,
            Arch::Aarch64 => Platform::Virt,
        }
    }

    /// Its architecture.
    pub fn arch(self) -> Arch {
        match self {
            Platform::Pc => Arch::X86_64,
            Platform::Virt | Platform::RaspberryPi3 => Arch::Aarch64,
        }
    }

    /// QEMU's name of it.
    pub(crate) fn machine(self) -> &'static str {
        match self {
            Platform::Pc => "q35",
            Platform::Virt => "virt",
            Platform::RaspberryPi3 => "raspi3b",
        }
    }

    /// Everything that the accelerator offers: TCG's `max` has AVX2, FMA and F16C, which inference
    /// needs and the default processor lacks; under KVM it is the host's own. Where TCG signs
    /// pointers it does so with a hash of its own: ARM's takes most of a guest's time.
    pub(crate) fn processor(self, translated: bool) -> &'static str {
        match self {
            Platform::Pc => "max",
            Platform::Virt if translated => "max,pauth-impdef=on",
            Platform::Virt => "max",
            Platform::RaspberryPi3 => "cortex-a53",
        }
    }

    /// Memory in MiB and processors, where the machine leaves no choice.
    pub(crate) fn fixed_size(self) -> Option<(u32, u32)> {
        match self {
            Platform::Pc | Platform::Virt => None,
            Platform::RaspberryPi3 => Some((1024, 4)),
        }
    }

    /// Which serial line is the one that people use: a Raspberry Pi's first one leads to its
    /// Bluetooth chip.
    pub(crate) fn serial_lines_before_the_console(self) -> usize {
        match self {
            Platform::Pc | Platform::Virt => 0,
            Platform::RaspberryPi3 => 1,
        }
    }

    /// Whether it has slots for PCI devices.
    pub(crate) fn has_pci(self) -> bool {
        !matches!(self, Platform::RaspberryPi3)
    }
}
