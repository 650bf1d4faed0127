//! What a pass can be computed by, and which way is the cheapest.
//!
//! The cost of a way is the number of floating-point operations in whose time, at the peak, it would be done.
//! It is made of vector operations: multiply-adds over the share of the peak that their register tiles reach,
//! transforms and copies, and the time that weights take which come from memory. The constants were measured on
//! one core with AVX-512 and with AVX2 (`cargo run --release -p fovea-kernels --example candidates` compares
//! them with the machine at hand); they are the same everywhere, so that a network is computed by the same
//! ways, and to the same bits, on every machine that has the instruction set.

use super::layout::Panels;
use super::packed_weight_gradient::GROUP;
use super::winograd::{WeightGradient, Weights, Winograd};
use super::winograd_transform::Form;
use super::{Conv2d, Conv2dShape, InputGradient, Pass, scatter, tile};
use crate::Isa;

/// A way to compute a pass of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Direct summation: a matrix product, or channel by channel for depthwise convolutions.
    Direct,
    /// The input gradient by adding a kernel row of products for each gradient pixel.
    Scatter,
    /// The weight gradient from packed copies of input and gradient.
    Packed,
    /// Winograd's F(4x4, 3x3) or F(2x2, 5x5).
    Winograd,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Scatter, Self::Packed, Self::Winograd];

    /// `direct`, `scatter`, `packed` or `winograd`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Scatter => "scatter",
            Self::Packed => "packed",
            Self::Winograd => "winograd",
        }
    }

    /// The algorithm of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// A way to compute a pass, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The way.
    pub algorithm: Algorithm,
    /// Floating-point operations in whose time, at the peak, it should be done.
    pub cost: f64,
}

impl Conv2d {
    /// The ways in which a pass can be computed, with their costs for a batch.
    pub fn candidates(&self, pass: Pass, batch: usize, weights: Weights) -> Vec<Candidate> {
        let model = Model { convolution: self, batch: batch as f64 };
        let to_flops = (2 * self.isa.lanes()) as f64;
        let candidate = |algorithm| {
            let cost = model.vector_operations(pass, algorithm, weights)? * to_flops;
            Some(Candidate { algorithm, cost })
        };
        Algorithm::ALL.into_iter().filter_map(candidate).collect()
    }

    /// The way in which a pass is best computed: the one it is held to, else the cheapest.
    pub fn choice(&self, pass: Pass, batch: usize, weights: Weights) -> Algorithm {
        let cheapest = || {
            let candidates = self.candidates(pass, batch, weights).into_iter();
            candidates.min_by(|a, b| a.cost.total_cmp(&b.cost)).map(|candidate| candidate.algorithm)
        };
        self.held(pass).or_else(cheapest).unwrap_or(Algorithm::Direct)
    }

    /// What a pass is held to.
    pub fn held(&self, pass: Pass) -> Option<Algorithm> {
        self.held[pass as usize]
    }

    /// The way in which the methods of this type compute a pass: never Winograd's.
    pub fn own_way(&self, pass: Pass) -> Algorithm {
        match pass {
            Pass::BackwardInput if self.input_gradient == InputGradient::Scatter => Algorithm::Scatter,
            Pass::BackwardWeight if self.packs => Algorithm::Packed,
            _ => Algorithm::Direct,
        }
    }

    /// Holds a pass to a way, whatever it costs. False, and nothing changes, where the pass cannot be computed
    /// so.
    pub fn hold(&mut self, pass: Pass, algorithm: Algorithm) -> bool {
        let possible = self.candidates(pass, 1, Weights::Stay);
        if !possible.iter().any(|candidate| candidate.algorithm == algorithm) {
            return false;
        }
        self.held[pass as usize] = Some(algorithm);
        match pass {
            Pass::Forward => {}
            Pass::BackwardInput
                if self.input_gradient == InputGradient::Dense || self.depthwise.is_some() => {}
            Pass::BackwardInput => self.set_input_gradient(match algorithm {
                Algorithm::Scatter => InputGradient::Scatter,
                _ => InputGradient::Gather,
            }),
            Pass::BackwardWeight => self.packs = algorithm == Algorithm::Packed,
        }
        true
    }

    /// Chooses between the ways that [`Conv2d::backward_input`] and [`Conv2d::backward_weight`] have; they do
    /// not depend on the batch.
    pub(super) fn choose_direct_ways(&mut self) {
        let cheaper = |pass: Pass, algorithm: Algorithm| {
            let candidates = self.candidates(pass, 1, Weights::Change);
            let cost = |algorithm| {
                let found = candidates.iter().find(|candidate| candidate.algorithm == algorithm);
                found.map_or(f64::INFINITY, |candidate| candidate.cost)
            };
            cost(algorithm) < cost(Algorithm::Direct)
        };
        let scatters = cheaper(Pass::BackwardInput, Algorithm::Scatter);
        self.packs = cheaper(Pass::BackwardWeight, Algorithm::Packed);
        if scatters {
            self.set_input_gradient(InputGradient::Scatter);
        }
    }
}

/// What the constants below are measured for: 32 registers of 64 bytes, or half of both.
fn is_wide(isa: Isa) -> bool {
    tile::registers(isa) >= 24
}

/// Costs in vector multiply-adds.
struct Model<'a> {
    convolution: &'a Conv2d,
    batch: f64,
}

impl Model<'_> {
    /// Of a pass by an algorithm, if it can be computed so.
    fn vector_operations(&self, pass: Pass, algorithm: Algorithm, weights: Weights) -> Option<f64> {
        let convolution = self.convolution;
        let whole = convolution.depthwise.is_some() || convolution.input_gradient == InputGradient::Dense;
        match (pass, algorithm) {
            (Pass::Forward | Pass::BackwardInput, Algorithm::Winograd) => {
                Winograd::new(convolution, pass).map(|winograd| self.winograd(&winograd, weights))
            }
            (Pass::BackwardWeight, Algorithm::Winograd) => {
                WeightGradient::new(convolution).map(|gradient| self.winograd_weight_gradient(&gradient))
            }
            (Pass::Forward, Algorithm::Direct) => Some(self.forward()),
            (Pass::BackwardInput, Algorithm::Direct) => Some(self.gather()),
            (Pass::BackwardInput, Algorithm::Scatter) => {
                let possible = !whole && scatter::is_possible(&convolution.shape);
                // Where Winograd's is possible, the weights are packed for it.
                (possible && Winograd::new(convolution, pass).is_none()).then(|| self.scatter())
            }
            (Pass::BackwardWeight, Algorithm::Direct) => Some(self.reduction()),
            (Pass::BackwardWeight, Algorithm::Packed) => self.packed_reduction(),
            _ => None,
        }
    }

    /// Vectors of the panels of a matrix with so many columns.
    fn vectors(&self, columns: usize) -> f64 {
        let isa = self.convolution.isa;
        let panels = Panels::new(isa, 1, 1, columns);
        (panels.count * panels.width / isa.lanes()) as f64
    }

    /// Vectors of a number of floats.
    fn floats(&self, count: usize) -> f64 {
        count as f64 / self.convolution.isa.lanes() as f64
    }

    /// The share of the peak that a register tile with panels for so many columns reaches.
    fn efficiency(&self, columns: usize) -> f64 {
        let isa = self.convolution.isa;
        match (Panels::new(isa, 1, 1, columns).width / isa.lanes(), is_wide(isa)) {
            (1, true) => 0.75,
            (1, false) => 0.85,
            (_, true) => 0.90,
            (_, false) => 0.93,
        }
    }

    /// Input and output floats of a pass, read and written once.
    fn traffic(&self) -> f64 {
        let Conv2d { shape: Conv2dShape { input: [h, w, c], .. }, output: [oh, ow, k], .. } =
            self.convolution;
        self.batch * TRAFFIC * self.floats(h * w * c + oh * ow * k)
    }

    /// Multiply-adds in the time that memory takes for a vector which takes so many on wide vectors.
    fn far(&self, wide: f64) -> f64 {
        wide * self.convolution.isa.lanes() as f64 / 16.0
    }

    /// The weights of a network come from memory, one layer's after another's.
    fn read_weights(&self) -> f64 {
        self.far(READ_FAR) * self.floats(self.convolution.shape.parameters())
    }

    /// The convolution that forward pass and weight gradient are computed as.
    fn wide(&self) -> Option<Self> {
        let abreast = self.convolution.abreast.as_ref()?;
        Some(Self { convolution: &abreast.convolution, batch: self.batch })
    }

    fn forward(&self) -> f64 {
        if let Some(wide) = self.wide() {
            return wide.forward();
        }
        let Conv2d { shape, output: [oh, ow, _], .. } = self.convolution;
        let Conv2dShape { kernel: [kh, kw], groups, .. } = *shape;
        if self.convolution.depthwise.is_some() {
            return self.batch * self.floats(oh * ow * kh * kw * shape.filters) + self.traffic();
        }
        let (c, k) = (shape.input[2] / groups, shape.filters / groups);
        let products = (oh * ow * kh * kw * c * groups) as f64 * self.vectors(k);
        self.batch * products / self.efficiency(k) + self.traffic() + self.read_weights()
    }

    fn gather(&self) -> f64 {
        let Conv2dShape { input: [h, w, c], filters, kernel: [kh, kw], stride, groups, .. } =
            self.convolution.shape;
        let taps_met = (h * w * kh * kw).div_ceil(stride[0] * stride[1]);
        if self.convolution.depthwise.is_some() {
            return self.batch * self.floats(taps_met * c) + self.traffic();
        }
        let products = (taps_met * filters) as f64 * self.vectors(c / groups);
        self.batch * products / self.efficiency(c / groups) + self.traffic() + self.read_weights()
    }

    fn scatter(&self) -> f64 {
        let Conv2d { shape, output: [oh, ow, _], .. } = self.convolution;
        let Conv2dShape { kernel: [kh, kw], groups, .. } = *shape;
        let row = kw * shape.input[2] / groups;
        let products = (oh * ow * kh * shape.filters) as f64 * self.vectors(row);
        let added = (shape.input[0] * ow * groups) as f64 * self.vectors(row);
        let tile = SCATTER * self.efficiency(row);
        self.batch * (products / tile + ADD * added) + self.traffic() + self.read_weights()
    }

    fn reduction(&self) -> f64 {
        if let Some(wide) = self.wide() {
            return wide.reduction();
        }
        let Conv2d { shape, output: [oh, ow, _], .. } = self.convolution;
        let Conv2dShape { kernel: [kh, kw], groups, .. } = *shape;
        if self.convolution.depthwise.is_some() {
            return self.batch * self.floats(oh * ow * kh * kw * shape.filters) + self.traffic();
        }
        let (c, k) = (shape.input[2] / groups, shape.filters / groups);
        let products = (oh * ow * kh * kw * c * groups) as f64 * self.vectors(k);
        let efficiency = if is_wide(self.convolution.isa) { REDUCTION_WIDE } else { REDUCTION_NARROW };
        self.batch * products / efficiency + self.traffic()
    }

    fn packed_reduction(&self) -> Option<f64> {
        let Conv2d { shape, output: [oh, ow, k], isa, .. } = self.convolution;
        let Conv2dShape { input: [h, w, c], kernel: [kh, kw], groups, .. } = *shape;
        let possible = groups == 1 && [c, *k].iter().all(|channels| channels.is_multiple_of(GROUP));
        let products = (oh * ow * kh * kw * c) as f64 * self.vectors(*k);
        let copies = if kh * kw == 1 { oh * ow * c } else { h * w * c } + oh * ow * k;
        let pack = if is_wide(*isa) { PACK_WIDE } else { PACK_NARROW };
        let cost = products / PACKED_REDUCTION + pack * self.floats(copies);
        possible.then(|| self.batch * cost + self.traffic())
    }

    fn winograd(&self, winograd: &Winograd, weights: Weights) -> f64 {
        let ([c, k], tiles) = (winograd.channels(), winograd.tiles(1) as f64 * self.batch);
        let weight = FREQUENCIES * c as f64 * self.vectors(k);
        let blocks = tiles / (winograd.most_tiles() as f64).min(tiles.max(1.0));
        let products = weight * tiles / WINOGRAD + weight * blocks * WEIGHTS_A_BLOCK;
        let transform = Transforms::of(winograd.form());
        let transforms = tiles * (transform.input * self.floats(c) + transform.output * self.floats(k));
        let [read, write] = [READ_FAR, WRITE_FAR].map(|wide| self.far(wide));
        let weights = weight
            * match weights {
                Weights::Stay => read,
                Weights::Change if winograd.weight_len() <= SMALL_WEIGHTS => transform.weight + NEAR,
                Weights::Change => transform.weight + write + read,
            };
        products + transforms + weights
    }

    fn winograd_weight_gradient(&self, gradient: &WeightGradient) -> f64 {
        let ([c, k], tiles) = (gradient.channels(), gradient.total(1) as f64 * self.batch);
        let cell = c as f64 * self.vectors(k);
        let blocks = (tiles / gradient.tiles_a_block(self.batch as usize) as f64).ceil();
        let products = FREQUENCIES * cell * tiles / WINOGRAD_REDUCTION;
        let transform = Transforms::of(gradient.form());
        let transforms = tiles * (transform.input * self.floats(c) + transform.gradient * self.floats(k));
        products + transforms + cell * blocks * transform.sums
    }
}

/// Matrix products of Winograd's algorithm.
const FREQUENCIES: f64 = 36.0;

/// Reading or writing a vector of a feature map, in the middle between a near cache and memory.
const TRAFFIC: f64 = 4.0;

/// Loading, adding and storing a vector of dx.
const ADD: f64 = 3.0;

/// What scattering reaches of a tile's share of the peak.
const SCATTER: f64 = 0.9;

/// Shares of the peak: weight gradients, unpacked and packed; Winograd's products and those of its weight
/// gradient.
const REDUCTION_WIDE: f64 = 0.79;
const REDUCTION_NARROW: f64 = 0.74;
const PACKED_REDUCTION: f64 = 0.87;
const WINOGRAD: f64 = 0.87;
const WINOGRAD_REDUCTION: f64 = 0.80;

/// Packing a vector of x or dy.
const PACK_WIDE: f64 = 6.0;
const PACK_NARROW: f64 = 8.0;

/// What Winograd's transforms cost.
struct Transforms {
    /// A vector of channels of a tile: input, output, output gradient.
    input: f64,
    output: f64,
    gradient: f64,
    /// A vector of the transformed weights.
    weight: f64,
    /// A vector of the sums of a block, at all frequencies.
    sums: f64,
}

impl Transforms {
    const fn of(form: Form) -> Self {
        match form {
            Form::Kernel3 => Self { input: 260.0, output: 200.0, gradient: 180.0, weight: 2.0, sums: 150.0 },
            Form::Kernel5 => Self { input: 260.0, output: 120.0, gradient: 120.0, weight: 3.0, sums: 500.0 },
        }
    }
}

/// Reading the transformed weights once more for a block, from a cache that all cores share.
const WEIGHTS_A_BLOCK: f64 = 3.0;

/// Floats of transformed weights that stay in a cache from being written to being read; what a vector of them
/// costs then, and what it costs in memory.
const SMALL_WEIGHTS: usize = 1 << 22;
const NEAR: f64 = 4.0;
const READ_FAR: f64 = 12.0;
const WRITE_FAR: f64 = 14.0;
