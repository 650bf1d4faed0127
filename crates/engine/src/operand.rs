//! What an instruction says of the values that it touches. All that is known of memory follows from this: how
//! long a value lives, what may be computed in place ([`plan`](crate::plan)), and whether a plan is right
//! ([`replay`](crate::replay)).

use crate::program::ValueId;

/// A value that an instruction touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operand {
    pub value: ValueId,
    pub access: Access,
    pub reach: Reach,
}

/// How an instruction touches an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Every element is overwritten.
    Write,
}

/// How far an operand is read from the pixel whose result is computed, or how far a result depends on where it
/// is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// At the same pixel and channels, and before the result is written there; what was read of other pixels
    /// before the first result was written, statistics for example, does not count. Only such a result may take
    /// such an operand's place.
    Pixel,
    /// Around the pixel, as windows are, or at the pixel after some of its channels have been written.
    Neighbourhood,
    /// Anywhere.
    Whole,
}

/// Most values that an instruction touches.
const MOST: usize = 12;

/// The values that an instruction touches: those read first, the principal one of each kind before the others,
/// the best one to compute in place before the next.
#[derive(Clone, Copy, Default)]
pub(crate) struct Operands {
    operands: [Option<Operand>; MOST],
    len: usize,
}

impl Operands {
    /// With a value that is read, if there is one.
    pub fn read(self, value: impl Into<Option<ValueId>>, reach: Reach) -> Self {
        self.with(value.into(), Access::Read, reach)
    }

    /// With a value that is written, if there is one.
    pub fn write(self, value: impl Into<Option<ValueId>>, reach: Reach) -> Self {
        self.with(value.into(), Access::Write, reach)
    }

    fn with(mut self, value: Option<ValueId>, access: Access, reach: Reach) -> Self {
        if let Some(value) = value {
            self.operands[self.len] = Some(Operand { value, access, reach });
            self.len += 1;
        }
        self
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Operand> + '_ {
        self.operands.iter().flatten().copied()
    }

    /// The values that are read.
    pub fn reads(&self) -> impl Iterator<Item = Operand> + '_ {
        self.iter().filter(|operand| operand.access == Access::Read)
    }

    /// The values that are written.
    pub fn writes(&self) -> impl Iterator<Item = Operand> + '_ {
        self.iter().filter(|operand| operand.access == Access::Write)
    }
}
