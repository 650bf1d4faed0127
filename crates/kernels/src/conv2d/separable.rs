//! A depthwise convolution and the 1 x 1 convolution behind it, depth-first.
//!
//! One after the other, they write the map between them to memory and read it again, and while the first runs
//! all threads wait for memory. Here each thread filters a band of rows into scratch memory that stays in its
//! second-level cache, and multiplies it at once, meanwhile asking for what the next band will read. Every
//! value is computed by the same tiles in the same order as by the two passes, so the bits are the same.
//!
//! Shapes: x `[n, h, w, c]`, between `[n, h', w', c]`, y `[n, h', w', filters]`.

use super::depthwise::{Depthwise, is_crowded};
use super::depthwise_gather::{Filter, Place};
use super::gather::Lines;
use super::gather::Source;
use super::tile::LINE;
use super::{Conv2d, Conv2dShape, Forward, scratch};
use crate::threads::Shareable;
use crate::{Activation, Context, View4, ViewMut4};

/// Bytes of a band of the map between: with what it is made from and the weights, it stays in a second-level
/// cache.
const BAND_BYTES: usize = 128 << 10;

/// Vector multiply-adds that are worth a region of threads.
const MULTIPLY_ADDS_A_REGION: usize = 1 << 14;

/// A depthwise convolution and the 1 x 1 convolution that reads its result.
#[derive(Clone, Copy)]
pub struct Separable<'a> {
    convolutions: [&'a Conv2d; 2],
    depthwise: &'a Depthwise,
}

/// What one of the two computes with.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    /// In the kernel's layout.
    pub weight: &'a [f32],
    /// `[filters]`.
    pub bias: Option<&'a [f32]>,
    /// What its sums go through.
    pub activation: Activation,
}

impl<'a> Separable<'a> {
    /// The two as one, if the first is depthwise and the second, 1 x 1 of stride 1, takes its result.
    pub fn new(depthwise: &'a Conv2d, pointwise: &'a Conv2d) -> Option<Self> {
        let Conv2dShape { input, kernel, stride, padding, groups, .. } = pointwise.shape;
        let plain = (kernel, stride, padding, groups) == ([1, 1], [1, 1], [0; 4], 1);
        let follows = (input, pointwise.isa) == (depthwise.output, depthwise.isa);
        let is_map = input[..2] != [1, 1];
        let convolutions = [depthwise, pointwise];
        let depthwise = depthwise.depthwise.as_ref()?;
        (plain && follows && is_map).then_some(Self { convolutions, depthwise })
    }

    /// Whether the two are faster as one: where each thread has so many pixels that its reading all of the
    /// weights counts less than the map between.
    pub fn pays(&self, batch: usize, threads: usize) -> bool {
        let [h, w, filters] = self.convolutions[1].output;
        batch * h * w >= filters * threads
    }

    /// The tiles of the two, for people: `depth-first depthwise 7x7x16, implicit GEMM 14x32`.
    pub fn algorithm(&self) -> String {
        let [depthwise, pointwise] =
            self.convolutions.map(|convolution| convolution.algorithm(super::Pass::Forward));
        format!("depth-first {depthwise}, {pointwise}")
    }

    /// Floats from pixel to pixel of a band, apart from those that compete for a set of the first-level cache.
    fn ld(&self) -> usize {
        let channels = self.depthwise.shape.input[2];
        if is_crowded(channels) { channels + LINE } else { channels }
    }

    /// The fewest bands that an image is cut into, which are whole tiles where a band has several.
    fn least_bands(&self) -> usize {
        let [h, w] = self.depthwise.output;
        let ([tile_rows, _], rows) =
            (self.depthwise.forward().tile(), BAND_BYTES / (w * self.ld() * size_of::<f32>()));
        let rows = if rows > tile_rows { rows / tile_rows * tile_rows } else { rows.max(1) };
        h.div_ceil(rows)
    }

    /// As few bands as give threads even shares.
    fn bands(&self, batch: usize, threads: usize) -> usize {
        let least = self.least_bands();
        let even = |bands: &usize| (batch * bands).is_multiple_of(threads);
        (least..least + threads).find(even).unwrap_or(least).min(self.depthwise.output[0])
    }

    /// Rows of x, counted over all images, that are read up to the end of a band, counted likewise.
    fn rows_read(&self, band: usize, bands: usize) -> usize {
        let Conv2dShape { input: [h, ..], stride, kernel, dilation, padding, .. } = self.depthwise.shape;
        let rows = self.depthwise.output[0] * (band % bands + 1) / bands;
        let behind = (rows - 1) * stride[0] + dilation[0] * (kernel[0] - 1) + 1;
        band / bands * h + behind.saturating_sub(padding[0]).min(h)
    }

    /// Floats of a thread's scratch memory: the depthwise pass, a band, the product.
    fn pieces(&self) -> [usize; 3] {
        let [h, w] = self.depthwise.output;
        let band = h.div_ceil(self.least_bands()) * w * self.ld();
        let product = self.convolutions[1].forward_gather().scratch_len(1);
        [self.depthwise.forward().thread_len(), band, product].map(|piece| piece.next_multiple_of(LINE))
    }

    /// Floats of scratch memory for a number of threads: zeros, and each thread's own pieces.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.depthwise.forward().zeros_len() + threads * self.pieces().iter().sum::<usize>()
    }

    /// y = activation(1 x 1 convolution of activation(depthwise convolution of x + bias) + bias + residual).
    ///
    /// Shapes: x `[n, h, w, c]`, y `[n, h', w', filters]`; the residual has y's shape and pixel distance, and
    /// may be y's memory; neither may be x's.
    ///
    /// # Panics
    /// When a shape or length is not the one said here, or the scratch memory is shorter than
    /// [`Self::scratch_len`] or not aligned to 8 bytes.
    pub fn forward(
        &self,
        context: Context,
        x: View4,
        [depthwise, pointwise]: [Stage; 2],
        residual: Option<View4>,
        y: ViewMut4,
        scratch: &mut [f32],
    ) {
        let (n, [h, w, c], [first, second]) = (x.n(), self.convolutions[0].output, self.convolutions);
        first.check(context, x.shape(), [n, h, w, c]);
        second.check(context, [n, h, w, c], y.shape());
        for (convolution, stage) in [(first, depthwise), (second, pointwise)] {
            assert_eq!(stage.weight.len(), convolution.weight_len());
            assert!(stage.bias.is_none_or(|bias| bias.len() == convolution.shape.filters));
        }
        let (windows, product) = (self.depthwise.forward(), second.forward_gather());
        let [own_len, band_len, product_len] = self.pieces();
        let a_thread = own_len + band_len + product_len;
        scratch::check(scratch, self.scratch_len(context.pool.at_once()));
        let (zeros, scratch) = scratch.split_at_mut(windows.zeros_len());
        zeros.fill(0.0);
        let Stage { weight, bias, activation } = depthwise;
        let filter = Filter { weight, bias, activation, zeros };
        let Stage { weight, bias, activation } = pointwise;
        // It reads bands instead of x.
        let epilogue = product.epilogue(Forward { x, weight, bias, residual, activation }, &y);
        let (ld, bands) = (self.ld(), self.bands(n, context.pool.at_once()));
        let worth = n * h * w * weight.len() / context.isa.lanes() >= MULTIPLY_ADDS_A_REGION;
        let scratch = Shareable::new(scratch);
        context.pool.run_if(worth, n * bands, |thread, part| {
            // SAFETY: each thread has its own range of the scratch memory, whose length is checked above.
            let scratch = unsafe { scratch.slice(thread * a_thread, a_thread) };
            let (own, rest) = scratch.split_at_mut(own_len);
            let (band, rest) = rest.split_at_mut(band_len);
            let (image, band_index) = (part / bands, part % bands);
            let row = |band: usize| image * h + h * band / bands;
            let rows = row(band_index)..row(band_index + 1);
            // SAFETY: the piece has room for the rows of a band, and is this thread's alone.
            let between = unsafe { ViewMut4::from_raw(band.as_mut_ptr(), [1, rows.len(), w, c], ld) };
            let place = Place { output: &between, first: rows.start * w };
            windows.run_rows(x, filter, rows.clone(), place, own);
            let (pointer, size, first_row) = (band.as_ptr(), [h, w], rows.start);
            let source = Source { pointer, size, ld, origin: [0, 0], first_row };
            let [read, later] =
                [part, part + 1].map(|part| x.w() * self.rows_read(part.min(n * bands - 1), bands));
            let later = Lines::new(x.pixel(read), (later - read) * x.ld());
            product.run_rows(source, later, epilogue, rows, &y, rest);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tensor;
    use crate::{Isa, Pool};
    use fovea_reference as reference;
    use reference::check::{relative_error, uniform, widen};

    /// Input, filters, kernel, stride, padding of the depthwise convolution.
    type Case = (usize, [usize; 3], usize, usize, usize, usize);

    /// Bands of one and of several rows and tiles, channels that crowd the first-level cache, remainders of
    /// tiles and panels, products in chunks, taps of all kinds, maps of one row and of few pixels.
    const CASES: &[Case] = &[
        (2, [112, 30, 32], 64, 3, 1, 1),
        (3, [23, 27, 40], 33, 3, 2, 1),
        (1, [40, 56, 256], 20, 3, 1, 1),
        (2, [9, 11, 7], 5, 3, 1, 0),
        (2, [15, 14, 12], 100, 5, 1, 2),
        (1, [2, 9, 800], 17, 3, 2, 1),
        (5, [1, 3, 2], 3, 1, 1, 0),
        (0, [4, 4, 3], 5, 3, 1, 1),
    ];

    fn shapes(&(_, input, filters, kernel, stride, padding): &Case) -> [Conv2dShape; 2] {
        let depthwise = Conv2dShape {
            input,
            filters: input[2],
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 4],
            dilation: [1, 1],
            groups: input[2],
        };
        let between = depthwise.output().unwrap();
        let (stride, padding, kernel) = ([1, 1], [0; 4], [1, 1]);
        [depthwise, Conv2dShape { input: between, filters, kernel, stride, padding, groups: 1, ..depthwise }]
    }

    /// Weights and biases of the two, in PyTorch's layout.
    fn parameters(shapes: &[Conv2dShape; 2]) -> [[Vec<f32>; 2]; 2] {
        let of = |shape: &Conv2dShape| [uniform(2, shape.parameters()), uniform(3, shape.filters)];
        shapes.each_ref().map(of)
    }

    /// As one, or one after the other.
    fn run(
        isa: Isa,
        threads: usize,
        gap: usize,
        case: &Case,
        residual: Option<&[f32]>,
        [between_them, last]: [Activation; 2],
        joined: bool,
    ) -> Vec<f32> {
        let (pool, shapes) = (Pool::start(threads, threads), shapes(case));
        let context = Context { isa, pool: &pool };
        let convolutions = shapes.map(|shape| Conv2d::new(shape, isa).unwrap());
        let parameters = parameters(&shapes);
        let weights: [_; 2] = std::array::from_fn(|index| {
            let mut weight = vec![f32::NAN; convolutions[index].weight_len()];
            convolutions[index].pack_weight(&parameters[index][0], &mut weight);
            weight
        });
        let [x, between, y] =
            [shapes[0].input, shapes[1].input, convolutions[1].output()].map(|[h, w, c]| [case.0, h, w, c]);
        let len = |shape: [usize; 4]| shape.iter().product::<usize>();
        let x = Tensor::new(&uniform(1, len(x)), x, gap);
        let residual = residual.map(|residual| Tensor::new(residual, y, gap));
        let residual = residual.as_ref().map(Tensor::view);
        let mut y = Tensor::new(&vec![f32::NAN; len(y)], y, gap);
        let [first, second] = &convolutions;
        let [bias, last_bias] = parameters.each_ref().map(|[_, bias]| Some(bias.as_slice()));
        let separable = Separable::new(first, second).unwrap();
        let lens = [first, second]
            .map(|convolution| convolution.scratch_len(crate::conv2d::Pass::Forward, case.0, threads));
        let len_needed = lens.into_iter().fold(separable.scratch_len(threads), usize::max);
        let mut memory = vec![f32::NAN; len_needed + 16];
        let skip = memory.as_ptr().align_offset(64);
        let memory = &mut memory[skip..];
        if joined {
            let stage = |index: usize, activation| Stage {
                weight: &weights[index],
                bias: Some(&parameters[index][1]),
                activation,
            };
            let stages = [stage(0, between_them), stage(1, last)];
            let memory = &mut memory[..separable.scratch_len(threads)];
            separable.forward(context, x.view(), stages, residual, y.view_mut(), memory);
        } else {
            let mut map = Tensor::new(&vec![f32::NAN; len(between)], between, gap);
            let forward = Forward { bias, activation: between_them, ..Forward::new(x.view(), &weights[0]) };
            first.forward(context, forward, map.view_mut(), memory);
            let (x, weight, bias, activation) = (map.view(), &weights[1][..], last_bias, last);
            let forward = Forward { x, weight, bias, residual, activation };
            second.forward(context, forward, y.view_mut(), memory);
        }
        y.values()
    }

    #[test]
    fn the_two_as_one_equal_the_reference_on_every_instruction_set() {
        for case in CASES {
            let shapes = shapes(case);
            let naive = shapes.map(|shape| {
                let Conv2dShape { input, filters, kernel, stride, padding, dilation, groups } = shape;
                reference::Conv2d { batch: case.0, input, filters, kernel, stride, padding, dilation, groups }
            });
            let [[w, b], [last_w, last_b]] =
                parameters(&shapes).map(|both| both.map(|values| widen(&values)));
            let x = widen(&uniform(1, case.0 * shapes[0].input.iter().product::<usize>()));
            let between: Vec<f64> =
                naive[0].forward(&x, &w, Some(&b)).iter().map(|value| value.max(0.0)).collect();
            let expected = naive[1].forward(&between, &last_w, Some(&last_b));
            let residual = uniform(5, expected.len());
            let added: Vec<f64> =
                expected.iter().zip(&residual).map(|(y, &residual)| y + f64::from(residual)).collect();
            for isa in Isa::available() {
                for (residual, expected) in [(None, &expected), (Some(residual.as_slice()), &added)] {
                    let activations = [Activation::Relu, Activation::None];
                    let y = run(isa, 2, 3, case, residual, activations, true);
                    let error = relative_error(&y, expected);
                    assert!(error < 3e-6, "{case:?} on {}, {}: {error:e}", isa.name(), residual.is_some());
                }
            }
        }
    }

    #[test]
    fn the_bits_are_those_of_the_two_passes_whatever_the_number_of_threads() {
        for case in CASES {
            for isa in Isa::available() {
                let plain = [Activation::Relu, Activation::None];
                let late = [Activation::Clip { least: 0.0, most: 0.5 }, Activation::HardSwish];
                for activations in [plain, late] {
                    let expected = run(isa, 1, 0, case, None, activations, false);
                    for threads in [1, 2, 3, 7] {
                        let y = run(isa, threads, 0, case, None, activations, true);
                        assert!(y == expected, "{case:?}, {threads} threads, {}", isa.name());
                    }
                }
            }
        }
    }

    #[test]
    fn only_a_plain_product_of_all_of_the_map_is_joined() {
        let isa = Isa::available()[0];
        let [depthwise, pointwise] = shapes(&CASES[0]);
        let joins = |first: Conv2dShape, second: Conv2dShape| {
            let [first, second] = [first, second].map(|shape| Conv2d::new(shape, isa).unwrap());
            Separable::new(&first, &second).is_some()
        };
        assert!(joins(depthwise, pointwise));
        assert!(!joins(pointwise, pointwise) && !joins(Conv2dShape { groups: 16, ..depthwise }, pointwise));
        for other in [
            Conv2dShape { stride: [2, 1], ..pointwise },
            Conv2dShape { kernel: [1, 3], padding: [0, 1, 0, 1], ..pointwise },
            Conv2dShape { padding: [1, 0, 0, 0], ..pointwise },
            Conv2dShape { groups: 2, ..pointwise },
            Conv2dShape { input: [56, 60, 32], ..pointwise },
        ] {
            assert!(!joins(depthwise, other), "{other:?}");
        }
    }
}
