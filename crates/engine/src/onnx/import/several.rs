//! Layers that files write as several nodes, since ONNX has no operator for them or an exporter takes others.
//!
//! What the nodes before the last one compute is a [`Partial`], which only the next node of its kind reads: the
//! divisor of local response normalisation, as PyTorch writes it, and distances from codes. Average pooling to
//! a given size is a product with means of columns, and one with means of rows.

use super::super::means::weights_of_means;
use super::Importer;
use super::call::Call;
use super::layers::positive;
use super::value::{Constant, Data, Map, Partial, Value};
use crate::error::Result;
use crate::graph::Node;
use crate::ops::{AdaptiveAvgPool, Affine, LocalResponseNorm, Multiply, Op, Pad, RadialBasis};
use std::rc::Rc;

impl<'f> Importer<'f> {
    /// A pooling over the third of five dimensions, `[batch, 1, channels, height, width]`, or of four: the mean
    /// of the squares of neighbouring channels. None where it is one over pixels.
    pub(super) fn mean_of_squares(&mut self, call: &Call<'f>) -> Result<Option<Value>> {
        let Value::Map(map) = self.input(call, 0)? else { return Ok(None) };
        if map.rank() < 4 || !map.axes(1).is_empty() || !map.is_channels(2) {
            return Ok(None);
        }
        let all = |name, only: i64| -> Result<bool> {
            Ok(call.ints(name)?.unwrap_or_default().iter().all(|&each| each == only))
        };
        let unpadded = all("pads", 0)? && matches!(call.text("auto_pad")?, None | Some("NOTSET" | "VALID"));
        let plain = unpadded && all("strides", 1)? && all("dilations", 1)?;
        // No window reaches beyond what is pooled.
        call.flag("ceil_mode")?;
        call.flag("count_include_pad")?;
        let kernel = call.ints("kernel_shape")?.unwrap_or_default();
        let &[size, ref others @ ..] = kernel else {
            return Err(call.error("a kernel_shape", "none").into());
        };
        let size = positive(call, "size", size)?;
        let channels = plain && others.len() + 3 == map.rank() && others.iter().all(|&side| side == 1);
        let squared = self.squared(&map.node, [size / 2, (size - 1) / 2]).filter(|_| channels);
        let squared = squared.ok_or_else(|| {
            let received = format!("windows of {kernel:?} over {:?} behind the batch", map.lengths());
            call.error("a mean over pixels, or of the squares of neighbouring channels", received)
        })?;
        let [height, width, padded] = map.shape;
        let shape = [height, width, padded + 1 - size];
        let map = Map { node: squared.to_owned(), shape, vector: false, label: None, ..map };
        let divisor = Partial::Divisor { map, size, scale: 1.0, shift: 0.0, power: 1.0 };
        Ok(Some(Value::Partial(divisor)))
    }

    /// The map whose squares a layer computes, and pads by so many channels if any.
    fn squared(&self, name: &str, zeros: [usize; 2]) -> Option<&str> {
        let layer = |name: &str| self.places.get(name).map(|&place| &self.nodes[place]);
        let mut product = layer(name)?;
        if zeros != [0, 0] {
            let padding = Op::Pad(Pad { padding: [0; 4], channels: zeros });
            product = layer(&product.inputs[0]).filter(|_| product.op == padding)?;
        }
        match &product.inputs[..] {
            [a, b] if a == b && product.op == Op::Multiply(Multiply {}) => Some(a),
            _ => None,
        }
    }

    /// Arithmetic with a partial value, or such that makes one; none where there is none.
    pub(super) fn combine_partial(
        &mut self,
        call: &Call<'f>,
        operator: &str,
        [a, b]: [&Value; 2],
    ) -> Result<Option<Value>> {
        let refused = |value: &Value| {
            call.error("maps, constants, or the next node of the same layer", value.describe())
        };
        let partial = match (operator, a, b) {
            ("Div", Value::Map(map), Value::Partial(Partial::Divisor { .. })) => {
                return self.local_response_norm_of(call, map, b).map(Some);
            }
            ("Mul", Value::Partial(one), Value::Partial(Partial::Differences { .. }))
                if call.node.input[0] == call.node.input[1] =>
            {
                one.squared()
            }
            (_, Value::Partial(one), other) | ("Add" | "Mul", other, Value::Partial(one)) => {
                let factor = self.resolve(other)?.and_then(|constant| single(&constant, one.rank()));
                factor.and_then(|factor| one.scaled(operator, factor))
            }
            (_, _, Value::Partial(_)) => None,
            ("Sub", Value::Map(map), codes) | ("Sub", codes, Value::Map(map)) if map.rank() == 3 => {
                let Some(codes) = self.resolve(codes)? else { return Ok(None) };
                let differences = differences(map, &codes);
                if differences.is_some() {
                    self.spend::<f32>(call, &codes.shape)?;
                }
                return Ok(differences.map(Value::Partial));
            }
            _ => return Ok(None),
        };
        let value = if matches!(a, Value::Partial(_)) { a } else { b };
        partial.map(|partial| Some(Value::Partial(partial))).ok_or_else(|| refused(value).into())
    }

    /// `x / (k + alpha mean(x^2))^beta`.
    fn local_response_norm_of(&mut self, call: &Call<'f>, x: &Map, divisor: &Value) -> Result<Value> {
        let Value::Partial(Partial::Divisor { map, size, scale, shift, power }) = divisor else {
            return Err(call.error("a divisor", divisor.describe()).into());
        };
        let same = x.node == map.node && x.aligned(&map.dims);
        call.require(same, "the map whose squares make the divisor", (x.lengths(), map.lengths()))?;
        let op = LocalResponseNorm { size: *size, alpha: *scale, beta: *power, k: *shift };
        Ok(Value::Map(self.add(self.name(&call.name), Op::LocalResponseNorm(op), &[x])?))
    }

    /// A power of part of a layer.
    pub(super) fn power(&mut self, call: &Call<'f>) -> Result<Value> {
        let value = self.input(call, 0)?;
        let exponent = self.constant_input(call, 1)?;
        let partial = match (&value, exponent) {
            (Value::Partial(partial), Some(exponent)) => {
                single(&exponent, partial.rank()).and_then(|exponent| partial.raised(exponent))
            }
            _ => None,
        };
        let expected = "a power in a local response normalisation, or a square in a distance from codes";
        partial.map(Value::Partial).ok_or_else(|| call.error(expected, value.describe()).into())
    }

    /// A sum over the inputs of the squares of differences from codes.
    pub(super) fn sum_of_squares(&mut self, call: &Call<'f>) -> Result<Value> {
        let value = self.input(call, 0)?;
        let axes = self.integers(call, "axes", 1)?;
        call.flag("noop_with_empty_axes")?;
        let inputs = matches!(axes.as_deref(), Some([2 | -1])) && call.int("keepdims")? == Some(0);
        match value {
            Value::Partial(Partial::Differences { map, codes, squared })
                if inputs && squared != (call.node.op_type == "ReduceSumSquare") =>
            {
                Ok(Value::Partial(Partial::Distances { map, codes }))
            }
            other => Err(call.error("the sum of a distance from codes", other.describe()).into()),
        }
    }

    /// Minus a distance from codes, or a map.
    pub(super) fn negative(&mut self, call: &Call<'f>) -> Result<Value> {
        let (map, codes) = match self.input(call, 0)? {
            Value::Partial(Partial::Distances { map, codes }) => (map, codes),
            Value::Map(map) => {
                let op = Op::Affine(Affine { scale: -1.0, shift: 0.0 });
                return Ok(Value::Map(self.add(self.name(&call.name), op, &[&map])?));
            }
            other => return Err(call.error("a distance from codes, or a map", other.describe()).into()),
        };
        let row = map.with_dims(Map::canonical_dims(2));
        let flat = self.flatten(&row, &format!("{}.flatten", call.name))?;
        self.spend::<f32>(call, &[codes.len(), map.len()])?;
        let op = Op::RadialBasis(RadialBasis { codes: Rc::unwrap_or_clone(codes) });
        let result = self.add(self.name(&call.name), op, &[&flat])?;
        Ok(Value::Map(result.with_dims(Map::canonical_dims(2))))
    }

    /// A product with a matrix of means from the right, over the columns of a map, or from the left, over its
    /// rows; none where a product is another one.
    pub(super) fn pool_to_size(&mut self, call: &Call<'f>) -> Result<Option<Value>> {
        let (axis, map, matrix) = match (self.input(call, 0)?, self.input(call, 1)?) {
            (Value::Map(map), matrix) => (1, map, matrix),
            (matrix, Value::Map(map)) => (0, map, matrix),
            _ => return Ok(None),
        };
        if map.spatial() != Some(2) {
            return Ok(None);
        }
        let Some(matrix) = self.resolve(&matrix)? else { return Ok(None) };
        let (Data::Floats(weights), &[first, second]) = (&matrix.data, &matrix.shape[..]) else {
            return Ok(None);
        };
        let (pixels, means) = if axis == 1 { (first, second) } else { (second, first) };
        if pixels != map.shape[axis] || means == 0 || *weights != weights_of_means(pixels, means, axis == 1) {
            return Ok(None);
        }
        let mut shape = map.shape;
        shape[axis] = means;
        let name = &call.node.input[1 - axis];
        let place = self.places.get(&map.node).copied().filter(|_| self.is_private(name, &map));
        if let Some(place) = place
            && let Node { op: Op::AdaptiveAvgPool(pool), inputs, .. } = &mut self.nodes[place]
            && self.shapes.get(&inputs[0]).is_some_and(|input| input[axis] == pixels)
        {
            pool.size[axis] = means;
            self.shapes.insert(map.node.clone(), shape);
            return Ok(Some(Value::Map(Map { shape, label: None, ..map })));
        }
        let op = Op::AdaptiveAvgPool(AdaptiveAvgPool { size: [shape[0], shape[1]] });
        Ok(Some(Value::Map(self.add(self.name(&call.name), op, &[&map])?)))
    }
}

impl Partial {
    fn rank(&self) -> usize {
        match self {
            Self::Divisor { map, .. } => map.rank(),
            Self::Differences { .. } => 3,
            Self::Distances { .. } => 2,
        }
    }

    /// With a number added, or multiplied with it.
    fn scaled(&self, operator: &str, number: f32) -> Option<Self> {
        let (factor, more) = match operator {
            "Add" => (1.0, number),
            "Sub" => (1.0, -number),
            "Mul" => (number, 0.0),
            _ => (1.0 / number, 0.0),
        };
        match self.clone() {
            Self::Divisor { map, size, scale, shift, power: 1.0 } => {
                let (scale, shift) = (scale * factor, shift * factor + more);
                Some(Self::Divisor { map, size, scale, shift, power: 1.0 })
            }
            _ => None,
        }
    }

    fn raised(&self, exponent: f32) -> Option<Self> {
        match self.clone() {
            Self::Divisor { map, size, scale, shift, power: 1.0 } => {
                Some(Self::Divisor { map, size, scale, shift, power: exponent })
            }
            _ if exponent == 2.0 => self.squared(),
            _ => None,
        }
    }

    fn squared(&self) -> Option<Self> {
        match self.clone() {
            Self::Differences { map, codes, squared: false } => {
                Some(Self::Differences { map, codes, squared: true })
            }
            _ => None,
        }
    }
}

/// What `[batch, 1, inputs]` less `[codes, inputs]` is; with a single code it is a shift like any other.
fn differences(map: &Map, codes: &Constant) -> Option<Partial> {
    let row = map.rank() == 3 && map.axes(1).is_empty() && map.length(1) == Some(1) && map.channels_first();
    let (Data::Floats(values), &[ref ahead @ .., count, inputs]) = (&codes.data, &codes.shape[..]) else {
        return None;
    };
    let repeated =
        matches!(ahead, [] | [1]) && count > 1 && inputs == map.len() && values.len() == count * inputs;
    (row && repeated).then(|| {
        let codes = Rc::new(values.chunks_exact(inputs).map(<[f32]>::to_vec).collect());
        Partial::Differences { map: map.clone(), codes, squared: false }
    })
}

/// The value of a constant that has one, and no more dimensions than what it is combined with: that would get
/// them, too.
fn single(constant: &Constant, rank: usize) -> Option<f32> {
    match constant.floats().as_deref() {
        Some(&[value]) if constant.shape.len() <= rank => Some(value),
        _ => None,
    }
}
