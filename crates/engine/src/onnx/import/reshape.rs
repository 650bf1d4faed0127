//! Operators that rename dimensions.
//!
//! No values move: a map's dimensions are regrouped, which layers then look through. Constants are computed.

use super::super::layout::Axis;
use super::Importer;
use super::call::Call;
use super::fold::check_rank;
use super::value::{Constant, Data, Length, Map, Partial, Value, elements};
use crate::error::Result;
use std::rc::Rc;

/// Most elements of a shape that is computed with.
pub(super) const LONGEST_SHAPE: usize = 64;

impl<'f> Importer<'f> {
    pub(super) fn reshape(&mut self, call: &Call<'f>) -> Result<Value> {
        let value = self.input(call, 0)?;
        if let Some(constant) = self.resolve(&value)? {
            return Ok(Value::Constant(Rc::new(self.reshape_constant(call, constant)?)));
        }
        match value {
            Value::Partial(Partial::Divisor { map, size, scale, shift, power }) => {
                let map = self.regroup(call, &map)?;
                Ok(Value::Partial(Partial::Divisor { map, size, scale, shift, power }))
            }
            _ => Ok(Value::Map(self.regroup(call, &self.map(call, 0)?)?)),
        }
    }

    /// A map with other dimensions.
    fn regroup(&mut self, call: &Call<'f>, map: &Map) -> Result<Map> {
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
            "Reshape" => map.reshaped(&self.target(call, map)?, self.batch),
            "Squeeze" => self.squeeze(call, map)?,
            _ => self.unsqueeze(call, map)?,
        };
        let batch_leads = |map: &Map| map.rank() > 0 && map.axes(0) == [Axis::Batch];
        match reshaped.filter(batch_leads) {
            // Unsqueeze flattens nothing: what did so before it gives the name.
            Some(map) if call.node.op_type == "Unsqueeze" && map.label.is_some() => Ok(map),
            Some(map) => Ok(Map { label: Some(call.name.clone()), ..map }),
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
        check_rank(call, map.rank() + places.len())?;
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

    fn reshape_constant(&self, call: &Call<'f>, constant: Rc<Constant>) -> Result<Constant> {
        self.spend_bytes(call, constant.bytes(), &constant.shape)?;
        let rank = constant.shape.len();
        let count = elements(&constant.shape);
        let shape = match call.node.op_type.as_str() {
            "Transpose" => return Ok(constant.transposed(&permutation(call, rank)?)),
            "Flatten" => {
                let axis = call.int("axis")?.unwrap_or(1);
                let axis = if axis == rank as i64 { rank } else { call.axis(axis, rank)? };
                vec![elements(&constant.shape[..axis]), elements(&constant.shape[axis..])]
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
                let single = dims.iter().all(|&dim| constant.shape[dim] == 1);
                call.require(single, "axes of length 1", &constant.shape)?;
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
        check_rank(call, shape.len())?;
        call.require(product == Some(count), &format!("a shape of {count} elements"), &shape)?;
        Ok(Constant { shape, ..Rc::unwrap_or_clone(constant) })
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
    let count = elements(shape);
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
