//! Operators that rename dimensions, and the arithmetic of shapes that leads to them.
//!
//! No values move: a map's dimensions are regrouped, which layers then look through. Constants are computed.

use super::super::layout::Axis;
use super::Importer;
use super::call::Call;
use super::value::{Constant, Data, Length, Map, Value};
use crate::error::Result;
use std::rc::Rc;

/// Most elements of a shape that is computed with.
const LONGEST_SHAPE: usize = 64;

/// Most elements of a constant stated by its shape alone that are written out at once.
const MOST_FILLED: usize = 1 << 16;

impl<'f> Importer<'f> {
    pub(super) fn reshape(&mut self, call: &Call<'f>) -> Result<Value> {
        let value = self.input(call, 0)?;
        if let Some(constant) = self.resolve(&value)? {
            return Ok(Value::Constant(Rc::new(self.reshape_constant(call, &constant)?)));
        }
        let map = self.map(call, 0)?;
        let reshaped = match call.node.op_type.as_str() {
            "Transpose" => {
                let permutation = permutation(call, map.rank())?;
                Some(map.with_dims(permutation.iter().map(|&dim| map.dims[dim].clone()).collect()))
            }
            "Flatten" => {
                let axis = call.int("axis")?.unwrap_or(1);
                let axis = if axis == map.rank() as i64 { map.rank() } else { call.axis(axis, map.rank())? };
                (axis == 1).then(|| map.with_dims(vec![map.dims[0].clone(), map.dims[1..].concat()]))
            }
            "Reshape" => map.reshaped(&self.target(call, &map)?, self.batch),
            "Squeeze" => self.squeeze(call, &map)?,
            _ => self.unsqueeze(call, &map)?,
        };
        let batch_leads = |map: &Map| map.rank() > 0 && map.axes(0) == [Axis::Batch];
        match reshaped.filter(batch_leads) {
            Some(map) => Ok(Value::Map(Map { label: Some(call.name.clone()), ..map })),
            None => {
                let received = format!("one of {:?} behind the batch", map.lengths());
                Err(call
                    .error("a change of whole dimensions that leaves the batch in front", received)
                    .into())
            }
        }
    }

    /// The shape that a map is to have.
    fn target(&self, call: &Call<'f>, map: &Map) -> Result<Vec<Length>> {
        let allow_zero = call.flag("allowzero")?;
        let constant = self.constant_input(call, 1)?;
        let constant = constant.ok_or_else(|| call.error("a shape", "none"))?;
        let Data::Integers(lengths) = &constant.data else {
            return Err(call.error("whole numbers as the shape", "floats").into());
        };
        call.require(lengths.len() <= LONGEST_SHAPE, "a shape of a few dimensions", lengths.len())?;
        let rests = lengths.iter().filter(|&&length| length == Some(-1)).count();
        call.require(rests <= 1, "at most one -1 in the shape", lengths)?;
        let length = |(dim, length): (usize, &Option<i64>)| match *length {
            None => Ok(Length::Batch),
            Some(-1) => Ok(Length::Rest),
            Some(0) if !allow_zero && dim < map.rank() => {
                Ok(map.length(dim).map_or(Length::Batch, Length::Known))
            }
            Some(length) if length > 0 => Ok(Length::Known(length as usize)),
            Some(length) => Err(call.error("lengths above 0", length.to_string()).into()),
        };
        lengths.iter().enumerate().map(length).collect()
    }

    fn squeeze(&self, call: &Call<'f>, map: &Map) -> Result<Option<Map>> {
        let single = |dim: usize| map.length(dim) == Some(1);
        let dims: Vec<usize> = match self.integers(call, "axes", 1)? {
            Some(axes) => axes.iter().map(|&axis| call.axis(axis, map.rank())).collect::<Result<_>>()?,
            None => (0..map.rank()).filter(|&dim| single(dim)).collect(),
        };
        if !dims.iter().all(|&dim| single(dim)) {
            return Ok(None);
        }
        let kept = (0..map.rank()).filter(|dim| !dims.contains(dim));
        Ok(Some(map.with_dims(kept.map(|dim| map.dims[dim].clone()).collect())))
    }

    fn unsqueeze(&self, call: &Call<'f>, map: &Map) -> Result<Option<Map>> {
        let places = self.new_places(call, map.rank())?;
        let mut old = map.dims.iter();
        let dims = (0..map.rank() + places.len()).map(|dim| {
            if places.contains(&dim) { Vec::new() } else { old.next().cloned().unwrap_or_default() }
        });
        Ok(Some(map.with_dims(dims.collect())))
    }

    /// Where the dimensions of Unsqueeze come to be.
    fn new_places(&self, call: &Call<'f>, rank: usize) -> Result<Vec<usize>> {
        let axes = self.integers(call, "axes", 1)?.unwrap_or_default();
        call.require((1..=LONGEST_SHAPE).contains(&axes.len()), "axes", axes.len())?;
        let places: Vec<usize> =
            axes.iter().map(|&axis| call.axis(axis, rank + axes.len())).collect::<Result<_>>()?;
        let twice = places.iter().enumerate().any(|(index, place)| places[..index].contains(place));
        call.require(!twice, "different axes", &axes)?;
        Ok(places)
    }

    fn reshape_constant(&self, call: &Call<'f>, constant: &Constant) -> Result<Constant> {
        let rank = constant.shape.len();
        let count: usize = constant.shape.iter().product();
        let shape = match call.node.op_type.as_str() {
            "Transpose" => return Ok(constant.transposed(&permutation(call, rank)?)),
            "Flatten" => {
                let axis = call.int("axis")?.unwrap_or(1);
                let axis = if axis == rank as i64 { rank } else { call.axis(axis, rank)? };
                vec![constant.shape[..axis].iter().product(), constant.shape[axis..].iter().product()]
            }
            "Reshape" => {
                let allow_zero = call.flag("allowzero")?;
                let target = self.integers(call, "shape", 1)?.ok_or_else(|| call.error("a shape", "none"))?;
                constant_shape(call, &target, &constant.shape, allow_zero)?
            }
            "Squeeze" => {
                let dims: Vec<usize> = match self.integers(call, "axes", 1)? {
                    Some(axes) => axes.iter().map(|&axis| call.axis(axis, rank)).collect::<Result<_>>()?,
                    None => (0..rank).filter(|&dim| constant.shape[dim] == 1).collect(),
                };
                let kept = (0..rank).filter(|dim| !dims.contains(dim));
                kept.map(|dim| constant.shape[dim]).collect()
            }
            _ => {
                let places = self.new_places(call, rank)?;
                let mut old = constant.shape.iter().copied();
                (0..rank + places.len())
                    .map(|dim| if places.contains(&dim) { 1 } else { old.next().unwrap_or(1) })
                    .collect()
            }
        };
        let product = shape.iter().try_fold(1usize, |product, &length: &usize| product.checked_mul(length));
        call.require(product == Some(count), &format!("a shape of {count} elements"), &shape)?;
        Ok(Constant { shape, data: constant.data.clone() })
    }

    pub(super) fn constant(&mut self, call: &Call<'f>) -> Result<Value> {
        let constant = if let Some(tensor) = call.tensor("value")? {
            super::read(self.file, tensor)?
        } else if let Some(value) = call.float("value_float")? {
            Constant { shape: vec![], data: Data::Floats(vec![value]) }
        } else if let Some(value) = call.int("value_int")? {
            Constant::integers(vec![], vec![Some(value)])
        } else if let Some(values) = call.ints("value_ints")? {
            Constant::integers(vec![values.len()], values.iter().copied().map(Some).collect())
        } else {
            return Err(call.error("a value that is a tensor or a number", "none").into());
        };
        Ok(Value::Constant(Rc::new(constant)))
    }

    /// A constant of one value everywhere.
    pub(super) fn filled(&mut self, call: &Call<'f>) -> Result<Value> {
        let lengths = self.shape_input(call, 0)?;
        let lengths = lengths.iter().map(|length| length.and_then(|length| usize::try_from(length).ok()));
        let shape: Option<Vec<usize>> = lengths.collect();
        let shape = shape.ok_or_else(|| call.error("lengths of at least 0", "others"))?;
        let count = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
        let count =
            count.ok_or_else(|| call.error("a shape of less than 2^64 elements", format!("{shape:?}")))?;
        let value = call.tensor("value")?.map(|tensor| super::read(self.file, tensor)).transpose()?;
        let floats =
            |value| if count > MOST_FILLED { Data::Same(value) } else { Data::Floats(vec![value; count]) };
        let data = match value.map(|constant| constant.data) {
            None => floats(0.0),
            Some(Data::Floats(values)) if values.len() == 1 => floats(values[0]),
            Some(Data::Integers(values)) if values.len() == 1 && count <= LONGEST_SHAPE => {
                Data::Integers(vec![values[0]; count])
            }
            Some(_) => return Err(call.error("one value, of a few integers at most", "others").into()),
        };
        Ok(Value::Constant(Rc::new(Constant { shape, data })))
    }

    pub(super) fn shape(&mut self, call: &Call<'f>) -> Result<Value> {
        let lengths: Vec<Option<i64>> = match self.input(call, 0)? {
            Value::Map(map) => (0..map.rank())
                .map(|dim| map.length(dim).or(self.batch).map(|length| length as i64))
                .collect(),
            other => {
                let constant = self.resolve(&other)?;
                constant
                    .iter()
                    .flat_map(|constant| &constant.shape)
                    .map(|&length| Some(length as i64))
                    .collect()
            }
        };
        let bound = |value: Option<i64>, default: usize| match value {
            None => default,
            Some(value) if value < 0 => value.saturating_add(lengths.len() as i64).max(0) as usize,
            Some(value) => (value as usize).min(lengths.len()),
        };
        let (start, end) = (bound(call.int("start")?, 0), bound(call.int("end")?, lengths.len()));
        let part = lengths.get(start..end).unwrap_or_default().to_vec();
        Ok(Value::Constant(Rc::new(Constant::integers(vec![part.len()], part))))
    }

    /// Gather and Slice, of shapes only.
    pub(super) fn select(&mut self, call: &Call<'f>) -> Result<Value> {
        let shape = self.shape_input(call, 0)?;
        let rank = [shape.len()];
        if call.node.op_type == "Gather" {
            call.only("axis", 0)?;
            let indices = self.constant_input(call, 1)?.ok_or_else(|| call.error("indices", "none"))?;
            let whole = indices.whole().ok_or_else(|| call.error("indices", "others than whole numbers"))?;
            call.require(whole.len() <= LONGEST_SHAPE, "a few indices", whole.len())?;
            let picked = whole
                .iter()
                .map(|&index| Ok(shape[call.axis(index, shape.len())?]))
                .collect::<Result<_>>()?;
            return Ok(Value::Constant(Rc::new(Constant::integers(indices.shape.clone(), picked))));
        }
        let one = |values: Option<Vec<i64>>, default: Option<i64>| match (values.as_deref(), default) {
            (Some(&[value]), _) => Ok(value),
            (None, Some(default)) => Ok(default),
            _ => Err(call.error("a slice of one dimension", format!("{values:?}"))),
        };
        let start = one(self.integers(call, "starts", 1)?, None)?;
        let end = one(self.integers(call, "ends", 2)?, None)?;
        let axis = one(self.integers(call, "axes", 3)?, Some(0))?;
        let step = match self.constant_input(call, 4)? {
            Some(steps) => one(steps.whole(), None)?,
            None => 1,
        };
        call.require((axis == 0 || axis == -1) && step == 1, "a slice of a shape, step 1", (axis, step))?;
        let place = |value: i64| {
            let positive = if value < 0 { value.saturating_add(rank[0] as i64) } else { value };
            positive.clamp(0, rank[0] as i64) as usize
        };
        let part = shape.get(place(start)..place(end)).unwrap_or_default().to_vec();
        Ok(Value::Constant(Rc::new(Constant::integers(vec![part.len()], part))))
    }

    /// Shapes one behind the other.
    pub(super) fn concat_constants(&self, call: &Call<'f>, values: &[Value]) -> Result<Value> {
        let mut joined = Vec::new();
        for index in 0..values.len() {
            joined.extend(self.shape_input(call, index)?);
        }
        call.require(joined.len() <= LONGEST_SHAPE, "a shape of a few dimensions", joined.len())?;
        Ok(Value::Constant(Rc::new(Constant::integers(vec![joined.len()], joined))))
    }

    /// A vector of whole numbers, as shapes are.
    fn shape_input(&self, call: &Call<'f>, index: usize) -> Result<Vec<Option<i64>>> {
        let value = self.input(call, index)?;
        let constant = self.resolve(&value)?.ok_or_else(|| {
            call.error(format!("a shape as input {index}"), "a value that depends on the image")
        })?;
        match &constant.data {
            Data::Integers(values) if constant.shape.len() == 1 && values.len() <= LONGEST_SHAPE => {
                Ok(values.clone())
            }
            _ => Err(call
                .error(format!("a shape as input {index}"), format!("an array {:?}", constant.shape))
                .into()),
        }
    }
}

/// The permutation of a transpose; without one the dimensions are reversed.
fn permutation(call: &Call, rank: usize) -> Result<Vec<usize>> {
    let Some(permutation) = call.ints("perm")? else { return Ok((0..rank).rev().collect()) };
    let mut sorted = permutation.to_vec();
    sorted.sort_unstable();
    let complete = sorted.iter().copied().eq(0..rank as i64);
    call.require(complete, &format!("a permutation of {rank} dimensions"), permutation)?;
    Ok(permutation.iter().map(|&dim| dim as usize).collect())
}

/// The shape of a constant with -1 and 0 replaced by what they stand for.
fn constant_shape(call: &Call, target: &[i64], shape: &[usize], allow_zero: bool) -> Result<Vec<usize>> {
    let count: usize = shape.iter().product();
    let refused = || {
        call.error(format!("a shape of {count} elements"), format!("{:?}", &target[..target.len().min(8)]))
    };
    let mut lengths = Vec::new();
    for (dim, &length) in target.iter().enumerate() {
        lengths.push(match length {
            -1 => 1,
            0 if !allow_zero => *shape.get(dim).ok_or_else(refused)?,
            _ => usize::try_from(length).map_err(|_| refused())?,
        });
    }
    let known = lengths
        .iter()
        .try_fold(1usize, |product, &length| product.checked_mul(length))
        .ok_or_else(refused)?;
    match target.iter().filter(|&&length| length == -1).count() {
        0 => {}
        1 if known > 0 && count.is_multiple_of(known) => {
            let rest = target.iter().position(|&length| length == -1).unwrap_or(0);
            lengths[rest] = count / known;
        }
        _ => return Err(refused().into()),
    }
    Ok(lengths)
}
