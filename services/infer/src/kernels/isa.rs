//! Which instruction set computes.

use std::fmt;

/// An instruction set that the kernels know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Plain Rust, for every machine.
    Plain,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 and AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 with VNNI, on 256 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// NEON with dot products.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
}

impl Isa {
    /// All that this machine has, the best one last.
    #[must_use]
    pub fn all() -> Vec<Isa> {
        let mut all = vec![Isa::Plain];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            all.push(Isa::Avx2);
            if is_x86_feature_detected!("avxvnni") {
                all.push(Isa::AvxVnni);
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                all.push(Isa::Avx512Vnni);
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            all.push(Isa::Neon);
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                all.push(Isa::NeonDot);
            }
        }
        all
    }

    /// The best that this machine has.
    #[must_use]
    pub fn best() -> Isa {
        Self::all().pop().unwrap_or(Isa::Plain)
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Plain => "plain",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => "AVX-VNNI",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => "AVX-512 VNNI",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "NEON",
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => "NEON dotprod",
        })
    }
}

/// Calls a function that is generic over lanes, compiled for an instruction set:
/// `for_isa!(isa, function[other, types](arguments))`. Unsafe: the machine must have the set.
macro_rules! for_isa {
    ($isa:expr, $function:ident $([$($type:ty),*])? ($($argument:ident),* $(,)?) : ($($kind:ty),*) $(-> $out:ty)?) => {{
        #[cfg(target_arch = "x86_64")]
        use crate::kernels::x86::{Avx2, Avx512Vnni, AvxVnni};
        #[cfg(target_arch = "aarch64")]
        use crate::kernels::neon::{Neon, NeonDot};
        use crate::kernels::plain::Plain;
        use crate::kernels::isa::Isa;
        match $isa {
            Isa::Plain => $function::<Plain $($(, $type)*)?>($($argument),*),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                #[target_feature(enable = "avx2,fma,f16c")]
                unsafe fn here($($argument: $kind),*) $(-> $out)? {
                    // SAFETY: the caller's.
                    unsafe { $function::<Avx2 $($(, $type)*)?>($($argument),*) }
                }
                here($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::AvxVnni => {
                #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
                unsafe fn here($($argument: $kind),*) $(-> $out)? {
                    // SAFETY: the caller's.
                    unsafe { $function::<AvxVnni $($(, $type)*)?>($($argument),*) }
                }
                here($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => {
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
                unsafe fn here($($argument: $kind),*) $(-> $out)? {
                    // SAFETY: the caller's.
                    unsafe { $function::<Avx512Vnni $($(, $type)*)?>($($argument),*) }
                }
                here($($argument),*)
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => $function::<Neon $($(, $type)*)?>($($argument),*),
            #[cfg(target_arch = "aarch64")]
            Isa::NeonDot => {
                #[target_feature(enable = "neon,dotprod")]
                unsafe fn here($($argument: $kind),*) $(-> $out)? {
                    // SAFETY: the caller's.
                    unsafe { $function::<NeonDot $($(, $type)*)?>($($argument),*) }
                }
                here($($argument),*)
            }
        }
    }};
}
pub(super) use for_isa;
