//! Which instruction set computes.

use std::fmt;

/// An instruction set that this machine was found to have. There is no other way to come by one, so
/// that whoever holds one may compute with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(pub(super) Set);

/// The instruction sets that the kernels know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Set {
    /// Plain Rust, for every machine.
    Plain,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX2 and AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// AVX-512 with VNNI: bytes on 256 bits, floats on 512.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// The same with AMX's matrix tiles.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// NEON with dot products.
    #[cfg(target_arch = "aarch64")]
    NeonDot,
    /// NEON with dot products and matrix products.
    #[cfg(target_arch = "aarch64")]
    NeonMatrix,
}

impl Isa {
    /// All that this machine has, the plain one first and the best one last.
    #[must_use]
    pub fn all() -> Vec<Isa> {
        let mut all = vec![Set::Plain];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            all.push(Set::Avx2);
            if is_x86_feature_detected!("avxvnni") {
                all.push(Set::AvxVnni);
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                all.push(Set::Avx512Vnni);
                if is_x86_feature_detected!("avx512bw") && super::amx::found() {
                    all.push(Set::Amx);
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            all.push(Set::Neon);
            if std::arch::is_aarch64_feature_detected!("dotprod") {
                all.push(Set::NeonDot);
                if std::arch::is_aarch64_feature_detected!("i8mm") {
                    all.push(Set::NeonMatrix);
                }
            }
        }
        all.into_iter().map(Isa).collect()
    }

    /// Whether a matrix unit multiplies whole tiles of tokens.
    pub(super) fn tiles(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.0 == Set::Amx;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Tokens that are computed one after the other with the same weights.
    pub(super) fn panel(self, columns: usize) -> usize {
        #[cfg(target_arch = "x86_64")]
        if self.tiles() {
            return super::amx::panel(columns);
        }
        let _ = columns;
        super::activations::PANEL
    }

    /// The best that this machine has.
    #[must_use]
    pub fn best() -> Isa {
        Self::all().pop().unwrap_or(Isa(Set::Plain))
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Set::Plain => "plain",
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni => "AVX-VNNI",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Set::Amx => "AMX",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "NEON",
            #[cfg(target_arch = "aarch64")]
            Set::NeonDot => "NEON dotprod",
            #[cfg(target_arch = "aarch64")]
            Set::NeonMatrix => "NEON i8mm",
        })
    }
}

/// Calls a function that is generic over lanes, compiled for an instruction set:
/// `for_isa!(isa, function[other, types](arguments): (argument types))`. Unsafe, because the function
/// is; that the machine has the set, the [`Isa`] itself says.
macro_rules! for_isa {
    ($isa:expr, $function:ident $([$($type:ty),*])? ($($argument:ident),* $(,)?) : ($($kind:ty),*) $(-> $out:ty)?) => {{
        #[cfg(target_arch = "x86_64")]
        use crate::kernels::x86::{Avx2, Avx512Vnni, AvxVnni};
        #[cfg(target_arch = "aarch64")]
        use crate::kernels::neon::{Neon, NeonDot, NeonMatrix};
        use crate::kernels::plain::Plain;
        use crate::kernels::isa::Set;
        match $isa.0 {
            Set::Plain => $function::<Plain $($(, $type)*)?>($($argument),*),
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => {
                #[target_feature(enable = "avx2,fma,f16c")]
                unsafe fn here($($argument: $kind),*) $(-> $out)? {
                    // SAFETY: the caller's.
                    unsafe { $function::<Avx2 $($(, $type)*)?>($($argument),*) }
                }
                here($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            Set::AvxVnni => {
                #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
                unsafe fn here($($argument: $kind),*) $(-> $out)? {
                    // SAFETY: the caller's.
                    unsafe { $function::<AvxVnni $($(, $type)*)?>($($argument),*) }
                }
                here($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            Set::Avx512Vnni | Set::Amx => {
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
                unsafe fn here($($argument: $kind),*) $(-> $out)? {
                    // SAFETY: the caller's.
                    unsafe { $function::<Avx512Vnni $($(, $type)*)?>($($argument),*) }
                }
                here($($argument),*)
            }
            #[cfg(target_arch = "aarch64")]
            Set::Neon => $function::<Neon $($(, $type)*)?>($($argument),*),
            #[cfg(target_arch = "aarch64")]
            Set::NeonDot => {
                #[target_feature(enable = "neon,dotprod")]
                unsafe fn here($($argument: $kind),*) $(-> $out)? {
                    // SAFETY: the caller's.
                    unsafe { $function::<NeonDot $($(, $type)*)?>($($argument),*) }
                }
                here($($argument),*)
            }
            #[cfg(target_arch = "aarch64")]
            Set::NeonMatrix => {
                #[target_feature(enable = "neon,dotprod,i8mm")]
                unsafe fn here($($argument: $kind),*) $(-> $out)? {
                    // SAFETY: the caller's.
                    unsafe { $function::<NeonMatrix $($(, $type)*)?>($($argument),*) }
                }
                here($($argument),*)
            }
        }
    }};
}
pub(super) use for_isa;
