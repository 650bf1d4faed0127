//! Sums, differences, products and quotients: of maps, of a map and a constant, of constants.

use super::Importer;
use super::call::Call;
use super::value::{Constant, Data, Map, Value, broadcast};
use crate::error::Result;
use crate::ops::{Add, Affine, Divide, Multiply, Op, Scale, Subtract};
use std::rc::Rc;

/// What a constant does to a map.
pub(super) enum Pattern {
    /// The same to all values.
    Scalar(f32),
    /// The same to all values of a channel.
    Channels(Vec<f32>),
}

impl<'f> Importer<'f> {
    pub(super) fn arithmetic(&mut self, call: &Call<'f>) -> Result<Value> {
        let count = call.node.input.len();
        if call.node.op_type != "Sum" {
            call.require(count == 2, "2 inputs", count)?;
        }
        let mut sum = self.input(call, 0)?;
        for index in 1..count {
            let names = [index - 1, index].map(|index| call.node.input[index].as_str());
            let next = self.input(call, index)?;
            sum = self.combine(call, names, sum, next)?;
        }
        Ok(sum)
    }

    fn combine(
        &mut self,
        call: &Call<'f>,
        [name_of_a, name_of_b]: [&str; 2],
        a: Value,
        b: Value,
    ) -> Result<Value> {
        let operator = match call.node.op_type.as_str() {
            "Sum" => "Add",
            other => other,
        };
        if let Some(value) = self.combine_partial(call, operator, [&a, &b])? {
            return Ok(value);
        }
        match (self.resolve(&a)?, self.resolve(&b)?, a, b) {
            (None, None, Value::Map(a), Value::Map(b)) => self.combine_maps(call, operator, &a, &b),
            (None, Some(constant), Value::Map(a), _) => {
                self.with_constant(call, operator, (name_of_a, &a), &constant)
            }
            (Some(constant), None, _, Value::Map(b)) => {
                self.constant_with(call, operator, &constant, (name_of_b, &b))
            }
            (Some(a), Some(b), ..) => self.combine_constants(call, operator, &a, &b),
            _ => Err(call.error("inputs that are known", "others").into()),
        }
    }

    fn combine_maps(&mut self, call: &Call<'f>, operator: &str, a: &Map, b: &Map) -> Result<Value> {
        let (mut a, mut b) = (a.clone(), b.clone());
        call.require(a.rank() == b.rank(), "maps of as many dimensions", (a.lengths(), b.lengths()))?;
        // A row and a map that could be one: the layers want both to be rows.
        if a.vector != b.vector && a.rank() == 2 && a.channels_first() && b.channels_first() {
            a = self.flatten(&a, &format!("{}.flatten", call.name))?;
            b = self.flatten(&b, &format!("{}.flatten", call.name))?;
        }
        // A factor for each channel of an image may stand on either side.
        let factors = |map: &Map, other: &Map| {
            let channels = (0..map.rank()).any(|dim| map.is_channels(dim) && other.is_channels(dim));
            channels && map.shape[..2] == [1, 1] && map.shape[2] == other.shape[2]
        };
        if operator == "Mul" && a.shape != b.shape && factors(&a, &b) {
            std::mem::swap(&mut a, &mut b);
        }
        let equal = a.shape == b.shape && a.aligned(&b.dims);
        let fits = equal || operator == "Mul" && factors(&b, &a);
        call.require(
            fits,
            "maps of one shape, or a map and factors of its channels",
            (a.lengths(), b.lengths()),
        )?;
        let op = match operator {
            "Add" => Op::Add(Add {}),
            "Sub" => Op::Subtract(Subtract {}),
            "Mul" => Op::Multiply(Multiply {}),
            _ => Op::Divide(Divide {}),
        };
        Ok(Value::Map(self.add(self.name(&call.name), op, &[&a, &b])?))
    }

    fn with_constant(
        &mut self,
        call: &Call<'f>,
        operator: &str,
        (name, map): (&str, &Map),
        constant: &Constant,
    ) -> Result<Value> {
        let (map, pattern) = self.pattern(call, map, constant)?;
        match operator {
            "Add" => self.shift(call, name, &map, pattern),
            "Sub" => self.shift(call, name, &map, pattern.map(|value| -value)),
            "Mul" => self.multiply(call, &map, pattern),
            _ => self.multiply(call, &map, pattern.map(|value| 1.0 / value)),
        }
    }

    fn constant_with(
        &mut self,
        call: &Call<'f>,
        operator: &str,
        constant: &Constant,
        (name, map): (&str, &Map),
    ) -> Result<Value> {
        let (map, pattern) = self.pattern(call, map, constant)?;
        match operator {
            "Add" => self.shift(call, name, &map, pattern),
            "Mul" => self.multiply(call, &map, pattern),
            "Sub" => {
                let affine = Op::Affine(Affine { scale: -1.0, shift: 0.0 });
                let negative = self.add(self.name(&call.name), affine, &[&map])?;
                self.shift_layer(call, &negative, pattern)
            }
            _ => Err(call.error("a map as its first input", "a constant").into()),
        }
    }

    /// Adds a constant: in the layer before it, if that has none yet and nobody else sees it.
    fn shift(&mut self, call: &Call<'f>, name: &str, map: &Map, pattern: Pattern) -> Result<Value> {
        let place = self.places.get(&map.node).copied().filter(|_| self.is_private(name, map));
        let Some(place) = place else { return self.shift_layer(call, map, pattern) };
        let bias = match (&mut self.nodes[place].op, &pattern) {
            (Op::Affine(affine), Pattern::Scalar(value)) => {
                affine.shift += value;
                return Ok(Value::Map(map.clone()));
            }
            (Op::Conv(conv), _) => &mut conv.bias,
            (Op::ConvTranspose(conv), _) => &mut conv.bias,
            (Op::Dense(dense), _) => &mut dense.bias,
            (Op::Scale(scale), _) => &mut scale.bias,
            _ => return self.shift_layer(call, map, pattern),
        };
        if *bias {
            return self.shift_layer(call, map, pattern);
        }
        *bias = true;
        let values = match pattern {
            Pattern::Scalar(value) => vec![value; map.shape[2]],
            Pattern::Channels(values) => values,
        };
        self.store(&map.node, "bias", vec![values.len()], values);
        Ok(Value::Map(map.clone()))
    }

    /// Adds a constant by a layer of its own.
    fn shift_layer(&mut self, call: &Call<'f>, map: &Map, pattern: Pattern) -> Result<Value> {
        let name = self.name(&call.name);
        let result = match pattern {
            Pattern::Scalar(shift) => self.add(name, Op::Affine(Affine { scale: 1.0, shift }), &[map])?,
            Pattern::Channels(values) => {
                let result = self.add(name.clone(), Op::Scale(Scale { bias: true }), &[map])?;
                self.store(&name, "weight", vec![values.len()], vec![1.0; values.len()]);
                self.store(&name, "bias", vec![values.len()], values);
                result
            }
        };
        Ok(Value::Map(result))
    }

    fn multiply(&mut self, call: &Call<'f>, map: &Map, pattern: Pattern) -> Result<Value> {
        let name = self.name(&call.name);
        let result = match pattern {
            Pattern::Scalar(scale) => self.add(name, Op::Affine(Affine { scale, shift: 0.0 }), &[map])?,
            Pattern::Channels(values) => {
                let result = self.add(name.clone(), Op::Scale(Scale { bias: false }), &[map])?;
                self.store(&name, "weight", vec![values.len()], values);
                result
            }
        };
        Ok(Value::Map(result))
    }

    /// What a constant, repeated along the dimensions where it has length 1, does to a map; the map is
    /// flattened where its dimensions are one.
    pub(super) fn pattern(
        &mut self,
        call: &Call<'f>,
        map: &Map,
        constant: &Constant,
    ) -> Result<(Map, Pattern)> {
        let values = constant.floats().ok_or_else(|| call.error("known values", "the number of images"))?;
        let refused = || {
            let received = format!("{:?} for {:?} behind the batch", constant.shape, map.lengths());
            call.error("a constant with one value, or one a channel", received)
        };
        let extra = constant.shape.len().saturating_sub(map.rank());
        if values.is_empty() || constant.shape[..extra].iter().any(|&length| length != 1) {
            return Err(refused().into());
        }
        let shape = &constant.shape[extra..];
        let ahead = map.rank() - shape.len();
        // Repeating the map is no operation of one map, and the number of images is only known where it is
        // fixed.
        let fits = |dim: usize| shape[dim] == 1 || Some(shape[dim]) == map.length(ahead + dim).or(self.batch);
        if extra > 0 || !(0..shape.len()).all(fits) {
            return Err(refused().into());
        }
        let mut varying = (0..shape.len()).filter(|&dim| varies(&values, shape, dim));
        let (Some(dim), None) = (varying.next(), varying.next()) else {
            let single = (0..shape.len()).all(|dim| !varies(&values, shape, dim));
            let single = single.then(|| (map.clone(), Pattern::Scalar(values[0])));
            return single.ok_or_else(|| refused().into());
        };
        let map = self.with_channels(call, map.clone(), ahead + dim).map_err(|_| refused())?;
        self.spend::<f32>(call, &shape[dim..=dim])?;
        let distance: usize = shape[dim + 1..].iter().product();
        let channels = (0..shape[dim]).map(|index| values[index * distance]).collect();
        Ok((map, Pattern::Channels(channels)))
    }

    /// Arithmetic of constants: of weights, and of shapes.
    fn combine_constants(
        &self,
        call: &Call<'f>,
        operator: &str,
        a: &Constant,
        b: &Constant,
    ) -> Result<Value> {
        let shape = broadcast(&a.shape, &b.shape).ok_or_else(|| {
            let received = format!("{:?} and {:?}", a.shape, b.shape);
            call.error("constants whose lengths are equal or 1, counted from the last", received)
        })?;
        let places = || a.places_in(&shape).zip(b.places_in(&shape));
        let data = match (&a.data, &b.data) {
            (Data::Integers(a), Data::Integers(b)) => {
                self.spend::<Option<i64>>(call, &shape)?;
                let known = places().map(|(at_a, at_b)| whole(operator, a[at_a]?, b[at_b]?).map(Some));
                let known = known.collect::<Option<Vec<_>>>();
                Data::Integers(known.ok_or_else(|| call.error("whole numbers that are known", "others"))?)
            }
            (Data::Integers(_), _) | (_, Data::Integers(_)) => {
                return Err(call.error("constants of one type", "floats and integers").into());
            }
            (Data::Same(a), Data::Same(b)) => Data::Same(float(operator, *a, *b)),
            (a, b) => {
                self.spend::<f32>(call, &shape)?;
                let value = |data: &Data, place: usize| match data {
                    Data::Floats(values) => values[place],
                    Data::Same(value) => *value,
                    Data::Integers(_) => f32::NAN, // those are told apart above
                };
                Data::Floats(
                    places().map(|(at_a, at_b)| float(operator, value(a, at_a), value(b, at_b))).collect(),
                )
            }
        };
        Ok(Value::Constant(Rc::new(Constant { shape, data })))
    }
}

impl Pattern {
    fn map(self, each: impl Fn(f32) -> f32) -> Self {
        match self {
            Pattern::Scalar(value) => Pattern::Scalar(each(value)),
            Pattern::Channels(values) => Pattern::Channels(values.into_iter().map(each).collect()),
        }
    }
}

/// Whether values in C order differ along a dimension.
fn varies(values: &[f32], shape: &[usize], dim: usize) -> bool {
    let inner: usize = shape[dim + 1..].iter().product();
    let block = inner * shape[dim];
    values.chunks_exact(block).any(|block| {
        let (first, others) = block.split_at(inner);
        others
            .chunks_exact(inner)
            .any(|other| other.iter().zip(first).any(|(a, b)| a.to_bits() != b.to_bits()))
    })
}

fn float(operator: &str, a: f32, b: f32) -> f32 {
    match operator {
        "Add" => a + b,
        "Sub" => a - b,
        "Mul" => a * b,
        _ => a / b,
    }
}

/// Division cuts towards zero; none for what is no whole number of 64 bits.
fn whole(operator: &str, a: i64, b: i64) -> Option<i64> {
    match operator {
        "Add" => a.checked_add(b),
        "Sub" => a.checked_sub(b),
        "Mul" => a.checked_mul(b),
        _ => a.checked_div(b),
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::elements;
    use super::*;
    use fovea_formats::onnx::{File, Graph, Node};

    fn floats(shape: &[usize], values: &[f32]) -> Constant {
        Constant { shape: shape.to_vec(), data: Data::Floats(values.to_vec()) }
    }

    fn integers(shape: &[usize], values: &[i64]) -> Constant {
        Constant::integers(shape.to_vec(), values.iter().copied().map(Some).collect())
    }

    fn combined(operator: &str, a: &Constant, b: &Constant) -> std::result::Result<Constant, String> {
        let node = Node { op_type: operator.into(), output: vec!["y".into()], ..Node::default() };
        let file = File::parse("x.onnx", vec![7 << 3 | 2, 0]).map_err(|error| error.to_string())?; // an empty graph
        let graph = Graph::default();
        let importer = Importer::new(&file, &graph, &[], "y");
        match importer.combine_constants(&Call::new(&node, 0, 17), operator, a, b) {
            Ok(Value::Constant(constant)) => Ok(Rc::unwrap_or_clone(constant)),
            Ok(_) => Err("no constant".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn constants_are_repeated_as_numpy_repeats_them_whichever_has_more_dimensions() {
        let one = |rank: usize| floats(&vec![1; rank], &[10.0]);
        let column = floats(&[3, 1, 1], &[1.0, 2.0, 4.0]);
        // numpy: np.full((1, 1, 1, 1), 10) - np.array([1, 2, 4]).reshape(3, 1, 1), and the other way round
        assert_eq!(combined("Sub", &one(4), &column), Ok(floats(&[1, 3, 1, 1], &[9.0, 8.0, 6.0])));
        assert_eq!(combined("Sub", &column, &one(4)), Ok(floats(&[1, 3, 1, 1], &[-9.0, -8.0, -6.0])));
        assert_eq!(combined("Div", &one(0), &column), Ok(floats(&[3, 1, 1], &[10.0, 5.0, 2.5])));
        assert_eq!(combined("Mul", &column, &one(1)), Ok(floats(&[3, 1, 1], &[10.0, 20.0, 40.0])));
        assert_eq!(combined("Add", &one(3), &one(1)), Ok(floats(&[1, 1, 1], &[20.0])));
        // np.arange(6).reshape(2, 3) - np.array([[10], [20]])
        let matrix = floats(&[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let expected = floats(&[2, 3], &[-10.0, -9.0, -8.0, -17.0, -16.0, -15.0]);
        assert_eq!(combined("Sub", &matrix, &floats(&[2, 1], &[10.0, 20.0])), Ok(expected));
        // np.array([1, 2]).reshape(2, 1, 1) * np.array([3, 4, 5]).reshape(1, 3)
        let expected = floats(&[2, 1, 3], &[3.0, 4.0, 5.0, 6.0, 8.0, 10.0]);
        let (outer, row) = (floats(&[2, 1, 1], &[1.0, 2.0]), floats(&[1, 3], &[3.0, 4.0, 5.0]));
        assert_eq!(combined("Mul", &outer, &row), Ok(expected));
        // np.zeros((0, 3)) + np.ones((1, 3)), np.zeros((2, 0)) + 1
        assert_eq!(combined("Add", &floats(&[0, 3], &[]), &row), Ok(floats(&[0, 3], &[])));
        assert_eq!(combined("Add", &floats(&[2, 0], &[]), &one(0)), Ok(floats(&[2, 0], &[])));
    }

    #[test]
    fn constants_of_one_value_everywhere_are_arrays_like_others() {
        let same = |shape: &[usize], value: f32| Constant { shape: shape.to_vec(), data: Data::Same(value) };
        assert_eq!(combined("Sub", &same(&[4, 1], 1.0), &same(&[5], 3.0)), Ok(same(&[4, 5], -2.0)));
        let expected = floats(&[2, 2], &[2.0, 1.0, 2.0, 1.0]);
        assert_eq!(combined("Sub", &same(&[2, 1], 3.0), &floats(&[2], &[1.0, 2.0])), Ok(expected));
    }

    #[test]
    fn whole_numbers_are_divided_towards_zero() {
        // np.trunc(np.array([7, -7, 7, -7]) / np.array([2, 2, -2, -2]))
        let expected = integers(&[4], &[3, -3, -3, 3]);
        let (a, b) = (integers(&[4], &[7, -7, 7, -7]), integers(&[4], &[2, 2, -2, -2]));
        assert_eq!(combined("Div", &a, &b), Ok(expected));
        let expected = integers(&[2, 1, 2], &[5, 4, 9, 8]);
        let (a, b) = (integers(&[2, 1, 1], &[6, 10]), integers(&[2], &[1, 2]));
        assert_eq!(combined("Sub", &a, &b), Ok(expected));
        let none = "Expected whole numbers that are known for \"y\" (Div) but received others.";
        assert_eq!(combined("Div", &a, &integers(&[], &[0])), Err(none.into()));
        assert_eq!(combined("Div", &integers(&[], &[i64::MIN]), &integers(&[], &[-1])), Err(none.into()));
    }

    #[test]
    fn constants_that_cannot_be_repeated_to_one_shape_are_refused() {
        let zeros = |shape: &[usize]| floats(shape, &vec![0.0; elements(shape)]);
        for (a, b) in [(&[2, 3][..], &[2][..]), (&[3], &[4, 2]), (&[0], &[2])] {
            let expected = format!(
                "Expected constants whose lengths are equal or 1, counted from the last for \"y\" (Add) but received \
                 {a:?} and {b:?}."
            );
            assert_eq!(combined("Add", &zeros(a), &zeros(b)), Err(expected));
        }
        let mixed = combined("Add", &zeros(&[1]), &integers(&[1], &[1])).unwrap_err();
        assert!(mixed.contains("constants of one type"), "{mixed}");
    }
}
