//! Which instruction set the kernels run on, as a token whose possession proves that this machine has it.
//!
//! [`Isa`] can only be made by asking the processor, so a function that takes one may call SIMD code of that
//! set without asking again: the proof travels with the value.

use crate::Pool;
#[cfg(target_arch = "aarch64")]
use crate::simd::neon::Neon;
use crate::simd::{Kernel, Simd, scalar::Scalar};
#[cfg(target_arch = "x86_64")]
use crate::simd::{avx2::Avx2, avx512::Avx512};

/// An instruction set that this machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// Portable code: four lanes that any compiler maps to what the target offers.
    Scalar(Scalar),
    /// NEON: four lanes, thirty-two registers.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// AVX2 and FMA: eight lanes, sixteen registers.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512 F, VL, DQ and BW: sixteen lanes, thirty-two registers.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IsaError {
    /// The name is none that the library knows.
    Unknown(String),
    /// The processor does not have it.
    Unsupported(String),
}

impl std::fmt::Display for IsaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
        let names = names.join(", ");
        match self {
            Self::Unknown(name) => {
                write!(f, "Expected an instruction set among {names} but received \"{name}\".")
            }
            Self::Unsupported(name) => {
                write!(
                    f,
                    "The instruction set \"{name}\" is not available on this machine, which has {names}."
                )
            }
        }
    }
}

impl std::error::Error for IsaError {}

/// The names that [`Isa::from_name`] accepts, slowest first.
const NAMES: [&str; 4] = ["scalar", "neon", "avx2", "avx512"];

impl Isa {
    /// The fastest set of this machine, or the one that the environment variable `FOVEA_ISA` names.
    pub fn detect() -> Result<Self, IsaError> {
        match std::env::var("FOVEA_ISA") {
            Ok(name) if !name.is_empty() => Self::from_name(&name),
            _ => Ok(Self::fastest()),
        }
    }

    /// Every set of this machine, slowest first; tests of a kernel run on each.
    pub fn available() -> Vec<Self> {
        NAMES.iter().filter_map(|name| Self::from_name(name).ok()).collect()
    }

    /// The set called `scalar`, `neon`, `avx2` or `avx512`, if this machine has it.
    pub fn from_name(name: &str) -> Result<Self, IsaError> {
        let isa = match name {
            "scalar" => Some(Self::Scalar(Scalar)),
            #[cfg(target_arch = "aarch64")]
            "neon" => Neon::detect().map(Self::Neon),
            #[cfg(target_arch = "x86_64")]
            "avx2" => Avx2::detect().map(Self::Avx2),
            #[cfg(target_arch = "x86_64")]
            "avx512" => Avx512::detect().map(Self::Avx512),
            name if NAMES.contains(&name) => None,
            _ => return Err(IsaError::Unknown(name.to_owned())),
        };
        isa.ok_or_else(|| IsaError::Unsupported(name.to_owned()))
    }

    fn fastest() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(isa) = Avx512::detect().map(Self::Avx512).or_else(|| Avx2::detect().map(Self::Avx2)) {
            return isa;
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(isa) = Neon::detect().map(Self::Neon) {
            return isa;
        }
        Self::Scalar(Scalar)
    }

    /// `scalar`, `neon`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar(_) => "scalar",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
        }
    }

    /// Number of `f32` lanes in a vector.
    pub fn lanes(self) -> usize {
        match self {
            Self::Scalar(_) => Scalar::LANES,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => Neon::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Avx512::LANES,
        }
    }

    /// Runs `kernel`, compiled for this set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Scalar(simd) => simd.enter(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => simd.enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.enter(kernel),
        }
    }
}

/// Where a kernel runs: on which instruction set and on which threads.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The instruction set.
    pub isa: Isa,
    /// The threads.
    pub pool: &'a Pool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_the_portable_set_and_names_round_trip() {
        let all = Isa::available();
        assert_eq!(all[0].name(), "scalar");
        for isa in all {
            assert_eq!(Isa::from_name(isa.name()), Ok(isa));
        }
    }

    #[test]
    fn an_unknown_name_is_one_sentence_with_the_name_in_it() {
        let message = Isa::from_name("sse9").unwrap_err().to_string();
        assert!(message.contains("\"sse9\"") && message.contains("scalar"), "{message}");
    }
}
