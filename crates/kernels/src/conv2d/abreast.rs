//! Several output pixels abreast, as one pixel of more channels, where few filters would leave lanes idle.
//!
//! With six filters, a vector of sixteen lanes is filled to three eighths. But the outputs of two neighbouring
//! pixels stand side by side in NHWC: twelve floats. They are one pixel of a convolution with twice the
//! filters, twice the horizontal stride, and a kernel that is wider by one stride, in which each filter stands
//! once for each pixel, shifted, between zeros. A 5 x 5 kernel becomes 5 x 6: 30 products of a vector for two
//! pixels instead of 50. The weight gradient is the same backwards: what the wider kernel's copies of a weight
//! collect is added up.
//!
//! The sums are those of the plain convolution, in the same order, with zeros in between.
//!
//! Shapes: wide weights as those of a convolution of `pixels x filters` filters, column = (pixel, filter).

use super::layout::Panels;
use super::tile::LINE;
use super::{Conv2d, Conv2dShape, Forward, Pass, weight_gradient};
use crate::{Context, View4, ViewMut4};

/// How many times fewer products are worth the wider weights.
const GAIN: f64 = 1.25;

/// A convolution whose pixels are several pixels of another.
#[derive(Clone, Debug)]
pub(super) struct Abreast {
    /// The wide convolution.
    pub convolution: Box<Conv2d>,
    /// Layout of the plain convolution's weights, one panel.
    plain: Panels,
    /// Pixels of the plain convolution in one of the wide.
    pub pixels: usize,
}

impl Abreast {
    /// As many pixels abreast as need the fewest products, if that are few enough.
    pub fn choose(plain: &Conv2d) -> Option<Self> {
        let Conv2d { shape, output, isa, .. } = plain;
        let possible = shape.groups == 1 && shape.dilation[1] == 1 && shape.filters < isa.lanes();
        let most = if possible { (isa.lanes() / shape.filters).min(output[1]) } else { 1 };
        // Products of a vector for each pixel, kernel row and channel.
        let products = |pixels: usize| wide_kernel(shape, pixels) as f64 / pixels as f64;
        let pixels = (2..=most)
            .filter(|&pixels| output[1].is_multiple_of(pixels))
            .min_by(|&a, &b| products(a).total_cmp(&products(b)))?;
        if products(1) < GAIN * products(pixels) {
            return None;
        }
        let Conv2dShape { kernel, stride, filters, .. } = *shape;
        let wide = Conv2dShape {
            filters: pixels * filters,
            kernel: [kernel[0], wide_kernel(shape, pixels)],
            stride: [stride[0], pixels * stride[1]],
            ..*shape
        };
        let convolution = Box::new(Conv2d::plain(wide, *isa).ok()?);
        Some(Self { convolution, plain: plain.panels, pixels })
    }

    /// Whether a view of the plain convolution's output can be seen as one of the wide's.
    pub fn fits(&self, ld: usize) -> bool {
        self.pixels * ld == self.convolution.shape.filters
    }

    /// A view of the plain convolution's output as one of the wide's.
    fn view<'a>(&self, view: View4<'a>) -> View4<'a> {
        let shape = self.shape(view.shape());
        // SAFETY: the same floats, which stand side by side (`fits`), so that pixels may be taken together.
        unsafe { View4::from_raw(view.pointer(), shape, shape[3]) }
    }

    fn shape(&self, [n, h, w, c]: [usize; 4]) -> [usize; 4] {
        [n, h, w / self.pixels, c * self.pixels]
    }

    /// Floats of the wide weights and of the wide bias, in whole cache lines.
    fn lengths(&self) -> [usize; 2] {
        [self.convolution.weight_len(), self.convolution.shape.filters].map(|len| len.next_multiple_of(LINE))
    }

    /// Floats of scratch memory for a pass that is one of this type's.
    pub fn scratch_len(&self, pass: Pass, batch: usize, threads: usize) -> usize {
        self.lengths().iter().sum::<usize>() + self.convolution.scratch_len(pass, batch, threads)
    }

    /// The pieces of the scratch memory: wide weights, wide bias, what the wide convolution needs.
    fn split<'s>(&self, scratch: &'s mut [f32]) -> (&'s mut [f32], &'s mut [f32], &'s mut [f32]) {
        let [weight_len, bias_len] = self.lengths();
        let (wide, scratch) = scratch.split_at_mut(weight_len);
        let (wide_bias, scratch) = scratch.split_at_mut(bias_len);
        (
            &mut wide[..self.convolution.weight_len()],
            &mut wide_bias[..self.convolution.shape.filters],
            scratch,
        )
    }

    /// The forward pass with the plain convolution's weights; views and lengths have been checked, and the
    /// output [fits](Self::fits).
    pub fn forward(&self, context: Context, forward: Forward, y: &ViewMut4, scratch: &mut [f32]) {
        let (Self { plain, .. }, Forward { weight, bias, residual, .. }) = (self, forward);
        let (wide, wide_bias, scratch) = self.split(scratch);
        wide.fill(0.0);
        self.for_each_row(|from, to| {
            wide[to..to + plain.columns].copy_from_slice(&weight[from..from + plain.columns]);
        });
        for pixel in wide_bias.chunks_exact_mut(plain.columns) {
            bias.inspect(|bias| pixel.copy_from_slice(bias));
        }
        let bias = bias.is_some().then_some(&*wide_bias);
        let shape = self.shape(y.shape());
        // SAFETY: as in `view`; the caller's borrow keeps others away.
        let y = unsafe { ViewMut4::from_raw(y.pointer(), shape, shape[3]) };
        let residual = residual.map(|residual| self.view(residual));
        let forward = Forward { weight: wide, bias, residual, ..forward };
        self.convolution.forward_gather().run(context, forward, &y, None, scratch);
    }

    /// The gradients of the plain convolution's weights and bias; views and lengths have been checked, and the
    /// output's gradient [fits](Self::fits).
    pub fn backward_weight(
        &self,
        context: Context,
        x: View4,
        dy: View4,
        dweight: &mut [f32],
        dbias: Option<&mut [f32]>,
        scratch: &mut [f32],
    ) {
        let (columns, (wide, wide_bias, scratch)) = (self.plain.columns, self.split(scratch));
        let mut wide_bias = dbias.is_some().then_some(wide_bias);
        weight_gradient::run(
            &self.convolution,
            context,
            x,
            self.view(dy),
            wide,
            wide_bias.as_deref_mut(),
            scratch,
        );
        let add = |to: &mut [f32], from: &[f32]| to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
        dweight.fill(0.0);
        self.for_each_row(|to, from| {
            add(&mut dweight[to..to + columns], &wide[from..from + columns]);
        });
        if let (Some(dbias), Some(wide_bias)) = (dbias, wide_bias) {
            dbias.fill(0.0);
            wide_bias.chunks_exact(columns).for_each(|pixel| add(dbias, pixel));
        }
    }

    /// Calls `each(index in the plain weights, index in the wide ones)` for the filters of each tap and
    /// channel, once for each pixel. Both are one panel.
    fn for_each_row(&self, mut each: impl FnMut(usize, usize)) {
        let plain = &self.plain;
        let Conv2dShape { kernel: [kh, wide_kw], stride, input: [_, _, c], .. } = self.convolution.shape;
        let (step, width) = (stride[1] / self.pixels, self.convolution.panels.width);
        let kw = wide_kw - (self.pixels - 1) * step;
        for pixel in 0..self.pixels {
            for row in 0..kh {
                for element in 0..kw * c {
                    let wide_row = (row * wide_kw + pixel * step) * c + element;
                    let plain_row = row * kw * c + element;
                    each(plain_row * plain.width, wide_row * width + pixel * plain.columns);
                }
            }
        }
    }
}

/// Columns of the kernel that covers the windows of so many pixels.
fn wide_kernel(shape: &Conv2dShape, pixels: usize) -> usize {
    shape.kernel[1] + (pixels - 1) * shape.stride[1]
}
