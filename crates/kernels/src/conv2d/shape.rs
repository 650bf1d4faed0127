//! The geometry of a convolution, and what is impossible.

/// Geometry of a convolution. Sizes are `[height, width]`, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dShape {
    /// Input height, width and channels.
    pub input: [usize; 3],
    /// Output channels.
    pub filters: usize,
    /// Kernel height and width.
    pub kernel: [usize; 2],
    /// Step between windows.
    pub stride: [usize; 2],
    /// Zeros around the input: top, right, bottom, left.
    pub padding: [usize; 4],
    /// Distance between the kernel's taps.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

/// Why a geometry is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeError {
    /// A size that must be positive is zero.
    Zero(&'static str),
    /// The window, dilated, is larger than the padded input.
    WindowTooLarge {
        /// Height and width of the dilated window.
        window: [usize; 2],
        /// Height and width of the padded input.
        padded: [usize; 2],
    },
    /// Channels or filters are not a multiple of the groups.
    Groups {
        /// Input channels.
        channels: usize,
        /// Output channels.
        filters: usize,
        /// Groups.
        groups: usize,
    },
    /// A product of sizes does not fit into memory.
    TooLarge,
}

impl std::fmt::Display for ShapeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Zero(what) => write!(f, "Expected a positive {what} but received 0."),
            Self::WindowTooLarge { window: [wh, ww], padded: [ph, pw] } => {
                write!(f, "A window of {wh} x {ww} does not fit into a padded input of {ph} x {pw}.")
            }
            Self::Groups { channels, filters, groups } => {
                write!(f, "Expected channels and filters divisible by {groups} groups but received ")?;
                write!(f, "{channels} channels and {filters} filters.")
            }
            Self::TooLarge => write!(f, "The sizes are too large for memory."),
        }
    }
}

impl std::error::Error for ShapeError {}

/// No single size or tensor may pass this many elements: products of a few of them still fit into 64 bits.
const LARGEST: usize = 1 << 40;

impl Conv2dShape {
    /// Output height, width and channels, each `(padded - dilation (kernel - 1) - 1) / stride + 1`, rounded
    /// down.
    pub fn output(&self) -> Result<[usize; 3], ShapeError> {
        let positive = [
            (self.input[0], "input height"),
            (self.input[1], "input width"),
            (self.input[2], "number of channels"),
            (self.filters, "number of filters"),
            (self.kernel[0].min(self.kernel[1]), "kernel size"),
            (self.stride[0].min(self.stride[1]), "stride"),
            (self.dilation[0].min(self.dilation[1]), "dilation"),
            (self.groups, "number of groups"),
        ];
        if let Some((_, what)) = positive.into_iter().find(|(size, _)| *size == 0) {
            return Err(ShapeError::Zero(what));
        }
        self.check_magnitude()?;
        let [h, w, channels] = self.input;
        if !channels.is_multiple_of(self.groups) || !self.filters.is_multiple_of(self.groups) {
            return Err(ShapeError::Groups { channels, filters: self.filters, groups: self.groups });
        }
        let [top, right, bottom, left] = self.padding;
        let padded = [h + top + bottom, w + left + right];
        let window = [0, 1].map(|axis| self.dilation[axis] * (self.kernel[axis] - 1) + 1);
        if window[0] > padded[0] || window[1] > padded[1] {
            return Err(ShapeError::WindowTooLarge { window, padded });
        }
        let [oh, ow] = [0, 1].map(|axis| (padded[axis] - window[axis]) / self.stride[axis] + 1);
        Ok([oh, ow, self.filters])
    }

    /// Refuses sizes whose products could overflow anywhere below.
    fn check_magnitude(&self) -> Result<(), ShapeError> {
        let sizes = self.padding.iter().chain(&self.stride).chain(&self.dilation);
        let product = |sizes: &[usize]| sizes.iter().try_fold(1usize, |all, &size| all.checked_mul(size));
        let products = [
            product(&self.input),
            product(&[self.input[2], self.filters, self.kernel[0], self.kernel[1]]),
            product(&[self.kernel[0], self.dilation[0]]),
            product(&[self.kernel[1], self.dilation[1]]),
        ];
        let fits = |size: &usize| *size <= LARGEST;
        match sizes.clone().all(fits) && products.iter().all(|product| product.as_ref().is_some_and(fits)) {
            true => Ok(()),
            false => Err(ShapeError::TooLarge),
        }
    }

    /// Multiplications (each with an addition) of one image's forward pass.
    pub fn mult_adds(&self) -> u64 {
        let Ok([oh, ow, filters]) = self.output() else { return 0 };
        (oh * ow * filters * self.kernel[0] * self.kernel[1] * (self.input[2] / self.groups)) as u64
    }

    /// Weights in PyTorch's layout: filters x channels of a group x kernel height x kernel width.
    pub fn parameters(&self) -> usize {
        self.filters * (self.input[2] / self.groups) * self.kernel[0] * self.kernel[1]
    }
}
