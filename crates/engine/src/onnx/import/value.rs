//! What a name in an ONNX graph stands for while it is imported.

use super::super::layout::{Axis, CHANNELS_FIRST, length};
use std::rc::Rc;

/// The value of a name.
#[derive(Clone)]
pub enum Value {
    /// Computed from the image.
    Map(Map),
    /// Known before there is an image.
    Constant(Rc<Constant>),
    /// A constant that is still in the file, by its position among the initializers.
    Initializer(usize),
    /// Computed from the image, but not by a layer of its own.
    Partial(Partial),
}

impl Value {
    /// What it is, where something else is wanted.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Map(_) => "a value that depends on the image",
            Self::Constant(_) | Self::Initializer(_) => "a constant",
            Self::Partial(Partial::Divisor { .. }) => "part of a local response normalisation",
            Self::Partial(_) => "part of a distance from codes",
        }
    }
}

/// What nodes compute on the way to a layer for which ONNX has no operator, or an exporter writes several.
#[derive(Clone, Debug)]
pub enum Partial {
    /// `(shift + scale * mean)^power`, the mean being that of the squares of `size` neighbouring channels of a
    /// map.
    Divisor { map: Map, size: usize, scale: f32, shift: f32, power: f32 },
    /// The differences of a vector from codes, `[batch, codes, inputs]`, or their squares.
    Differences { map: Map, codes: Rc<Vec<Vec<f32>>>, squared: bool },
    /// The sums of the squares, `[batch, codes]`.
    Distances { map: Map, codes: Rc<Vec<Vec<f32>>> },
}

/// A feature map, and what ONNX's dimensions of it stand for.
#[derive(Clone, Debug)]
pub struct Map {
    /// The layer that computes it, or the input.
    pub node: String,
    /// `[height, width, channels]`.
    pub shape: [usize; 3],
    /// The axes of each dimension, the slowest first. Axes of length 1 may be anywhere.
    pub dims: Vec<Vec<Axis>>,
    /// Whether it is a row for dense layers, as flatten and dense leave it.
    pub vector: bool,
    /// What a layer that flattens it should be called: the last node that reshaped it other than by Unsqueeze.
    pub label: Option<String>,
}

/// A length in a shape that a node asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    Known(usize),
    /// That of the batch.
    Batch,
    /// What is left.
    Rest,
}

impl Map {
    pub fn new(node: String, shape: [usize; 3], dims: Vec<Vec<Axis>>) -> Self {
        Self { node, shape, dims, vector: false, label: None }
    }

    /// The dimensions of a map of this rank as most operators want them: batch, channels, pixels.
    pub fn canonical_dims(rank: usize) -> Vec<Vec<Axis>> {
        use Axis::{Batch, Channels, Height, Width};
        match rank {
            0 => vec![],
            1 => vec![vec![Batch, Channels, Height, Width]],
            2 => vec![vec![Batch], vec![Channels, Height, Width]],
            3 => vec![vec![Batch], vec![Channels], vec![Height, Width]],
            _ => vec![vec![Batch], vec![Channels], vec![Height], vec![Width]],
        }
    }

    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Values of one image.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The axes of a dimension that are longer than 1.
    pub fn axes(&self, dim: usize) -> Vec<Axis> {
        self.long(&self.dims[dim])
    }

    fn long(&self, axes: &[Axis]) -> Vec<Axis> {
        axes.iter().copied().filter(|&axis| axis == Axis::Batch || length(self.shape, axis) > 1).collect()
    }

    /// The length of a dimension; none for the batch.
    pub fn length(&self, dim: usize) -> Option<usize> {
        let batch = self.dims[dim].contains(&Axis::Batch);
        (!batch).then(|| self.dims[dim].iter().map(|&axis| length(self.shape, axis)).product())
    }

    /// Lengths of all dimensions but the batch.
    pub fn lengths(&self) -> Vec<usize> {
        (0..self.rank()).filter_map(|dim| self.length(dim)).collect()
    }

    /// Whether a dimension is that of the channels and of nothing else.
    pub fn is_channels(&self, dim: usize) -> bool {
        let axes = self.axes(dim);
        axes == [Axis::Channels]
            || axes.is_empty() && self.shape[2] == 1 && self.dims[dim].contains(&Axis::Channels)
    }

    /// Whether two values have the same axes in the same dimensions.
    pub fn aligned(&self, dims: &[Vec<Axis>]) -> bool {
        self.rank() == dims.len() && self.dims.iter().zip(dims).all(|(a, b)| self.long(a) == self.long(b))
    }

    /// The number of spatial dimensions, if they come after the channels: 2, or 1 for sequences, which have
    /// height 1.
    pub fn spatial(&self) -> Option<usize> {
        let rank = self.rank();
        let canonical = matches!(rank, 3 | 4) && self.aligned(&Self::canonical_dims(rank));
        (canonical && (rank == 4 || self.shape[0] == 1)).then(|| rank - 2)
    }

    /// The three axes of an image in ONNX's order; those of length 1 come last.
    pub fn order(&self) -> [Axis; 3] {
        let long: Vec<Axis> =
            (0..self.rank()).flat_map(|dim| self.axes(dim)).filter(|&a| a != Axis::Batch).collect();
        let short = CHANNELS_FIRST.into_iter().filter(|axis| !long.contains(axis));
        let mut order = long.iter().copied().chain(short);
        std::array::from_fn(|index| order.next().unwrap_or(CHANNELS_FIRST[index]))
    }

    /// Whether ONNX has channels before height before width.
    pub fn channels_first(&self) -> bool {
        let place = |axis| CHANNELS_FIRST.iter().position(|&each| each == axis);
        let long: Vec<_> = self.order().into_iter().filter(|&axis| length(self.shape, axis) > 1).collect();
        long.is_sorted_by_key(|&axis| place(axis))
    }

    /// The same values with other dimensions.
    pub fn with_dims(&self, dims: Vec<Vec<Axis>>) -> Self {
        let mut map = Self { dims, ..self.clone() };
        let canonical = Self::canonical_dims(map.rank());
        if map.rank() <= 4 && map.aligned(&canonical) {
            map.dims = canonical;
        }
        map
    }

    /// The same values in another shape, if every dimension of it is made of whole axes; `batch` is the batch's
    /// length where it is known.
    pub fn reshaped(&self, lengths: &[Length], batch: Option<usize>) -> Option<Self> {
        let (&first, rest) = lengths.split_first()?;
        let known: Option<usize> = rest.iter().try_fold(1usize, |product, length| match length {
            Length::Known(length) => product.checked_mul(*length),
            Length::Rest => Some(product),
            Length::Batch => None,
        });
        let (known, len) = (known?, self.len());
        let leads = match first {
            Length::Batch => true,
            Length::Rest => known == len,
            // With any other number of images than one, the file itself would be wrong.
            Length::Known(length) => batch.map_or(length == 1, |batch| batch == length),
        };
        if !leads
            || known == 0
            || !len.is_multiple_of(known)
            || self.dims.first().map(|dim| self.long(dim))? != [Axis::Batch]
        {
            return None;
        }
        let mut axes = (1..self.rank()).flat_map(|dim| self.axes(dim)).peekable();
        let mut dims = vec![vec![Axis::Batch]];
        let mut total = 1;
        for wanted in rest {
            let wanted = if let Length::Known(length) = wanted { *length } else { len / known };
            let (mut dim, mut product) = (Vec::new(), 1);
            while product < wanted {
                let axis = axes.next()?;
                product *= length(self.shape, axis);
                dim.push(axis);
            }
            if product != wanted {
                return None;
            }
            total *= product;
            dims.push(dim);
        }
        (total == len && axes.peek().is_none()).then(|| self.with_dims(dims))
    }
}

/// An array that is known before there is an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    pub shape: Vec<usize>,
    pub data: Data,
}

/// The elements of a [`Constant`] in C order.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Floats(Vec<f32>),
    /// None stands for the number of images, where that is not fixed.
    Integers(Vec<Option<i64>>),
    /// One float everywhere, which is not written out before a layer wants it: its shape may mean any size.
    Same(f32),
}

/// The shape of what is computed from two arrays, as ONNX and NumPy have it: counted from the last one,
/// dimensions are as long as each other, or one is 1 and repeated. None where they do not fit.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let length =
        |shape: &[usize], dim: usize| (dim + shape.len()).checked_sub(rank).map_or(1, |dim| shape[dim]);
    let together = |dim: usize| match (length(a, dim), length(b, dim)) {
        (1, other) | (other, 1) => Some(other),
        (a, b) => (a == b).then_some(a),
    };
    (0..rank).map(together).collect()
}

/// Most elements of an array of one value that are written out where many values are expected.
const MOST_FILLED: usize = 1 << 16;

/// How many elements an array has; without any, its other lengths may be too large to be multiplied.
pub fn elements(shape: &[usize]) -> usize {
    if shape.contains(&0) {
        0
    } else {
        shape.iter().fold(1, |product, &length| product.saturating_mul(length))
    }
}

impl Constant {
    pub fn integers(shape: Vec<usize>, values: Vec<Option<i64>>) -> Self {
        Self { shape, data: Data::Integers(values) }
    }

    /// Its values as floats, integers among them; none if one is the number of images, or
    /// they are many that are not written out.
    pub fn floats(&self) -> Option<Vec<f32>> {
        match &self.data {
            Data::Floats(values) => Some(values.clone()),
            Data::Integers(values) => values.iter().map(|value| value.map(|value| value as f32)).collect(),
            Data::Same(value) => {
                let count = elements(&self.shape);
                (count <= MOST_FILLED).then(|| vec![*value; count])
            }
        }
    }

    /// Memory of its elements.
    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::Floats(values) => size_of_val(values.as_slice()),
            Data::Integers(values) => size_of_val(values.as_slice()),
            Data::Same(_) => 0,
        }
    }

    /// Its values as whole numbers; none if they are no integers, or one is the number of images.
    pub fn whole(&self) -> Option<Vec<i64>> {
        match &self.data {
            Data::Integers(values) => values.iter().copied().collect(),
            Data::Floats(_) | Data::Same(_) => None,
        }
    }

    /// Its whole numbers, unknown ones among them; none where it has others.
    pub fn integer_values(&self) -> &[Option<i64>] {
        match &self.data {
            Data::Integers(values) => values,
            Data::Floats(_) | Data::Same(_) => &[],
        }
    }

    /// The same values in another order of the dimensions.
    pub fn transposed(&self, permutation: &[usize]) -> Self {
        let shape: Vec<usize> = permutation.iter().map(|&dim| self.shape[dim]).collect();
        // What holds no values of its own may be of any size.
        if matches!(self.data, Data::Same(_)) || shape.contains(&0) {
            return Self { shape, data: self.data.clone() };
        }
        let strides = self.strides();
        let places = Places::new(permutation.iter().map(|&dim| (self.shape[dim], strides[dim])).collect());
        let data = match &self.data {
            Data::Floats(values) => Data::Floats(places.map(|place| values[place]).collect()),
            Data::Integers(values) => Data::Integers(places.map(|place| values[place]).collect()),
            Data::Same(value) => Data::Same(*value),
        };
        Self { shape, data }
    }

    /// Where the elements of an array of this shape, which [`broadcast`] made of its own and another, are
    /// found.
    pub fn places_in(&self, shape: &[usize]) -> Places {
        let ahead = shape.len() - self.shape.len();
        let strides = if shape.contains(&0) { vec![0; self.shape.len()] } else { self.strides() };
        let own = self.shape.iter().zip(strides);
        let distances = own.map(|(&length, stride)| if length == 1 { 0 } else { stride });
        let distances = std::iter::repeat_n(0, ahead).chain(distances);
        Places::new(shape.iter().copied().zip(distances).collect())
    }

    /// All positions along each dimension, for [`Constant::picked`].
    pub fn positions(&self) -> Vec<Vec<usize>> {
        self.shape.iter().map(|&length| (0..length).collect()).collect()
    }

    /// The elements at these positions along each dimension; for shapes, whose elements are few.
    pub fn picked(&self, positions: &[Vec<usize>]) -> Self {
        let offsets = |(list, stride): (&Vec<usize>, usize)| list.iter().map(|at| at * stride).collect();
        self.combined(positions.iter().zip(self.strides()).map(offsets).collect())
    }

    /// How far the next element of each dimension is.
    fn strides(&self) -> Vec<usize> {
        (0..self.shape.len()).map(|dim| self.shape[dim + 1..].iter().product()).collect()
    }

    /// The elements at the sums of an offset of each dimension, the last dimension innermost.
    fn combined(&self, offsets: Vec<Vec<usize>>) -> Self {
        let shape = offsets.iter().map(Vec::len).collect();
        let places = || {
            offsets.iter().fold(vec![0], |places, dim| {
                places.iter().flat_map(|place| dim.iter().map(move |offset| place + offset)).collect()
            })
        };
        let data = match &self.data {
            Data::Floats(values) => Data::Floats(places().iter().map(|&place| values[place]).collect()),
            Data::Integers(values) => Data::Integers(places().iter().map(|&place| values[place]).collect()),
            Data::Same(value) => Data::Same(*value),
        };
        Self { shape, data }
    }
}

/// The places of an array's elements in memory, in C order.
pub struct Places {
    /// Length and distance of each dimension.
    loops: Vec<(usize, usize)>,
    /// Where each loop is.
    at: Vec<usize>,
    next: Option<usize>,
}

impl Places {
    fn new(loops: Vec<(usize, usize)>) -> Self {
        let next = loops.iter().all(|&(length, _)| length > 0).then_some(0);
        Self { at: vec![0; loops.len()], loops, next }
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let place = self.next.take()?;
        let mut begin = place;
        for (at, &(length, distance)) in self.at.iter_mut().zip(&self.loops).rev() {
            if *at + 1 < length {
                *at += 1;
                self.next = Some(begin + distance);
                break;
            }
            begin -= *at * distance;
            *at = 0;
        }
        Some(place)
    }
}
