//! Helpers of the tests: tensors with gaps between their pixels, and every way to run a kernel.

use crate::{Activation, Context, Isa, Pool, View4, ViewMut4, activation};
use fovea_reference::check::{uniform, widen};

/// What stands between the pixels and behind the last, and what an output holds before it is written.
const UNTOUCHED: f32 = 12345.0;

/// Floats behind the last pixel, to show a kernel that writes too far.
const BEHIND: usize = 3;

/// An NHWC tensor that owns its memory, pixels `ld` floats apart.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    data: Vec<f32>,
    shape: [usize; 4],
    ld: usize,
}

impl Tensor {
    /// A tensor of these values, given densely.
    pub(crate) fn new(values: &[f32], shape: [usize; 4], gap: usize) -> Self {
        let mut tensor = Self::unwritten(shape, gap);
        assert_eq!(values.len(), shape.iter().product::<usize>());
        for (pixel, values) in tensor.data.chunks_exact_mut(tensor.ld).zip(values.chunks(shape[3])) {
            pixel[..shape[3]].copy_from_slice(values);
        }
        tensor
    }

    /// Reproducible values in -1..1.
    pub(crate) fn uniform(seed: u64, shape: [usize; 4], gap: usize) -> Self {
        Self::new(&uniform(seed, shape.iter().product()), shape, gap)
    }

    /// Memory for a kernel to write, full of a value that no kernel computes.
    pub(crate) fn unwritten(shape: [usize; 4], gap: usize) -> Self {
        let ld = shape[3] + gap;
        Self { data: vec![UNTOUCHED; shape[..3].iter().product::<usize>() * ld + BEHIND], shape, ld }
    }

    pub(crate) fn view(&self) -> View4<'_> {
        View4::new(&self.data, self.shape, self.ld).unwrap()
    }

    pub(crate) fn view_mut(&mut self) -> ViewMut4<'_> {
        ViewMut4::new(&mut self.data, self.shape, self.ld).unwrap()
    }

    /// The tensor as operand and result of an operation that works in place.
    pub(crate) fn in_place(&mut self) -> (View4<'_>, ViewMut4<'_>) {
        // SAFETY: the tests give both to one call of such an operation.
        unsafe { self.view_mut().in_place() }
    }

    /// The values without the gaps and the end, which must be as they were made.
    #[track_caller]
    pub(crate) fn values(&self) -> Vec<f32> {
        let channels = self.shape[3];
        let (pixels, behind) = self.data.split_at(self.data.len() - BEHIND);
        behind.iter().for_each(|&value| assert_eq!(value, UNTOUCHED, "a kernel wrote behind the last pixel"));
        let gaps = pixels.chunks(self.ld).flat_map(|pixel| &pixel[channels..]);
        gaps.for_each(|&value| assert_eq!(value, UNTOUCHED, "a kernel wrote between the pixels"));
        pixels.chunks(self.ld).flat_map(|pixel| &pixel[..channels]).copied().collect()
    }

    /// The values for the reference.
    pub(crate) fn wide(&self) -> Vec<f64> {
        widen(&self.values())
    }
}

/// Every activation, with numbers that cut values of about 1.
pub(crate) const ACTIVATIONS: [Activation; 7] = [
    Activation::None,
    Activation::Relu,
    Activation::Clip { least: -0.3, most: 0.6 },
    Activation::LeakyRelu(0.2),
    Activation::HardSwish,
    Activation::Silu,
    Activation::Gelu,
];

/// The same values by a pass of its own, which is tested against the reference: what an epilogue must equal to
/// the bit.
pub(crate) fn apart(context: Context, activation: Activation, values: &[f32]) -> Vec<f32> {
    let mut y = Tensor::new(values, [1, 1, 1, values.len()], 0);
    let (x, to) = y.in_place();
    match activation {
        Activation::None => {}
        Activation::Relu => activation::relu(context, x, to),
        Activation::Clip { least, most } => activation::clip(context, x, least, most, to),
        Activation::LeakyRelu(slope) => activation::leaky_relu(context, x, slope, to),
        Activation::HardSwish => activation::hard_swish(context, x, to),
        Activation::Silu => activation::silu(context, x, to),
        Activation::Gelu => activation::gelu(context, x, to),
    }
    y.values()
}

/// Calls `test` with a context on every instruction set, on one thread.
pub(crate) fn on_every_isa(test: impl Fn(Context)) {
    let pool = Pool::new(1);
    Isa::available().into_iter().for_each(|isa| test(Context { isa, pool: &pool }));
}

/// Panics unless `compute` gives the same bits on 1, 2 and 3 threads, on every instruction set.
#[track_caller]
pub(crate) fn assert_threads_agree(compute: impl Fn(Context) -> Vec<f32>) {
    for isa in Isa::available() {
        let bits = |threads| {
            let values = compute(Context { isa, pool: &Pool::start(threads, threads) });
            values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let alone = bits(1);
        assert!([2, 3].into_iter().all(|threads| bits(threads) == alone), "{}", isa.name());
    }
}

/// Panics unless the largest difference is within `tolerance` of the largest expected value.
#[track_caller]
pub(crate) fn assert_matches(actual: &[f32], expected: &[f64], tolerance: f64) {
    let error = fovea_reference::check::relative_error(actual, expected);
    assert!(error <= tolerance, "relative error {error}, tolerance {tolerance}");
}
