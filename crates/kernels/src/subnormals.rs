//! Subnormal numbers count as zero while kernels run: they carry no information that training needs, and
//! arithmetic on them is up to a hundred times slower.
//!
//! The processor has a switch for it, and neither Rust nor LLVM has a way to say that it is set: both take it
//! that subnormals are kept (`core::arch::x86_64::_mm_setcsr` calls another setting undefined, LLVM's
//! "Floating-Point Environment" says that it leads to undefined behaviour typically; vendor intrinsics are no
//! exception, since they become the same LLVM operations). So this is a step beyond what the language promises,
//! taken for the factor of a hundred. What keeps its effects to whether a number below 1.2e-38 counts as zero:
//!
//! - What the compiler may do is compute as if subnormals were kept: fold constants, drop a multiplication by
//!   one, choose another instruction for a comparison, move arithmetic over the switch. The outcome of each is
//!   a subnormal or, in its place, zero. Only these two bits of the control register differ from what the
//!   compiler takes them for; rounding and masks are as ever.
//! - No constant of the kernels is subnormal, and no place in memory, no length and no number of rounds follows
//!   from a float, so no precondition of unsafe code hangs on which of the two it is. An index that a
//!   comparison of floats chooses, as in max pooling, is in range whatever the comparison says.
//! - The switch is one block of assembly that may read and write memory, so no load or store moves over it, and
//!   [`Pool`](crate::Pool) calls what it runs through a pointer that the optimiser does not see through.
//!   Arithmetic of a region therefore stays in the region, and that of its caller outside.
//! - Every part of every region runs with the switch set, on whichever thread, and its code is compiled once:
//!   the bits of a result do not depend on the number of threads. The tests of every kernel compare them on 1,
//!   2 and 3.
//! - The switch is back where it was when a region ends, also by a panic, before other code of the thread runs.
//!
//! The test below fails if a compiler, one day, computes a region outside the switch, or its caller inside.

/// While it lives, this thread reads and writes subnormal numbers as zero, on processors that can.
pub(crate) struct FlushSubnormals {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    saved: control::Register,
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl FlushSubnormals {
    pub(crate) fn new() -> Self {
        let saved = control::read();
        control::write(saved | control::FLUSH);
        Self { saved }
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Drop for FlushSubnormals {
    fn drop(&mut self) {
        control::write(self.saved);
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl FlushSubnormals {
    pub(crate) fn new() -> Self {
        Self {}
    }
}

/// The control register of SSE and AVX.
#[cfg(target_arch = "x86_64")]
mod control {
    use std::arch::asm;

    pub type Register = u32;

    /// Flush-to-zero (bit 15) and denormals-are-zero (bit 6).
    pub const FLUSH: Register = 1 << 15 | 1 << 6;

    pub fn read() -> Register {
        let mut control = 0;
        // SAFETY: stores the control register to a local and changes nothing else; every x86-64 processor has
        // it.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut control, options(nostack, preserves_flags)) };
        control
    }

    /// For what [`read`] gave, with [`FLUSH`] or without: it changes only how subnormals are treated.
    pub fn write(control: Register) {
        // SAFETY: reads a local. Who sets FLUSH takes it back, and the top of this file says what happens
        // meanwhile. The register holds the exception flags, too, of which a region may have raised some that
        // are lowered again: hence no `preserves_flags`, which would promise that they stay.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &control, options(nostack)) };
    }
}

/// The control register of NEON, FPCR.
#[cfg(target_arch = "aarch64")]
mod control {
    use std::arch::asm;

    pub type Register = u64;

    /// Flush-to-zero (bit 24), of operands and results.
    pub const FLUSH: Register = 1 << 24;

    pub fn read() -> Register {
        let control;
        // SAFETY: reads the control register, which every AArch64 processor with NEON has.
        unsafe { asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack, preserves_flags)) };
        control
    }

    /// For what [`read`] gave, with [`FLUSH`] or without: it changes only how subnormals are treated.
    pub fn write(control: Register) {
        // SAFETY: who sets FLUSH takes it back, and the top of this file says what happens meanwhile. The
        // status flags are in another register, so they are preserved.
        unsafe { asm!("msr fpcr, {}", in(reg) control, options(nostack, preserves_flags)) };
    }
}

#[cfg(test)]
mod tests {
    use crate::Pool;

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn subnormals_are_zero_inside_a_region_and_themselves_outside() {
        let tiny = std::hint::black_box(1e-40f32);
        for parts in [1, 2] {
            Pool::new(2).run(parts, |_, _| assert_eq!(std::hint::black_box(tiny) * 1.0, 0.0));
            assert!(std::hint::black_box(tiny) * 1.0 > 0.0);
        }
    }
    #[test]
    fn after_a_region_that_panicked_subnormals_are_themselves() {
        let tiny = std::hint::black_box(1e-40f32);
        for parts in [1, 2] {
            let region = || Pool::new(2).run(parts, |_, _| panic!("a part is broken"));
            assert!(std::panic::catch_unwind(region).is_err());
            assert!(std::hint::black_box(tiny) * 1.0 > 0.0);
        }
    }
}
