//! Constants, and the arithmetic of shapes: what is known before there is an image is computed while a file is
//! read.
//!
//! Exporters write shapes as they come up: PyTorch's tracing one leads a padding of four numbers through
//! ConstantOfShape, Concat, Reshape, Slice backwards, Transpose and Reshape.

use super::Importer;
use super::call::Call;
use super::reshape::LONGEST_SHAPE;
use super::value::{Constant, Data, Partial, Value};
use crate::error::Result;
use fovea_formats::onnx::MOST_DIMENSIONS;
use std::rc::Rc;

impl<'f> Importer<'f> {
    pub(super) fn constant(&mut self, call: &Call<'f>) -> Result<Value> {
        let constant = if let Some(tensor) = call.tensor("value")? {
            let constant = super::read(self.file, tensor)?;
            self.grant(&constant);
            constant
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
        let data = match value.map(|constant| constant.data) {
            None => Data::Same(0.0),
            Some(Data::Floats(values)) if values.len() == 1 => Data::Same(values[0]),
            Some(Data::Integers(values)) if values.len() == 1 && count <= LONGEST_SHAPE => {
                Data::Integers(vec![values[0]; count])
            }
            Some(_) => return Err(call.error("one value, of a few integers at most", "others").into()),
        };
        Ok(Value::Constant(Rc::new(Constant { shape, data })))
    }

    /// The lengths of a value's dimensions, or of some of them.
    pub(super) fn shape(&mut self, call: &Call<'f>) -> Result<Value> {
        let value = self.input(call, 0)?;
        let lengths: Vec<Option<i64>> = match (self.resolve(&value)?, value) {
            (Some(constant), _) => constant.shape.iter().map(|&length| Some(length as i64)).collect(),
            (None, Value::Map(map) | Value::Partial(Partial::Divisor { map, .. })) => (0..map.rank())
                .map(|dim| map.length(dim).or(self.batch).map(|length| length as i64))
                .collect(),
            (None, other) => return Err(call.error("a map or a constant", other.describe()).into()),
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

    /// Some elements of a shape along one dimension, by their indices.
    pub(super) fn gather(&mut self, call: &Call<'f>) -> Result<Value> {
        let constant = self.small(call, 0)?;
        let axis = call.axis(call.int("axis")?.unwrap_or(0), constant.shape.len())?;
        let indices = self.small(call, 1)?;
        let whole = indices.whole().ok_or_else(|| call.error("indices", "the number of images"))?;
        let length = constant.shape[axis];
        let picked = whole.iter().map(|&index| call.axis(index, length)).collect::<Result<Vec<_>>>()?;
        let mut kept = constant.positions();
        kept[axis] = picked;
        let count = kept.iter().map(Vec::len).product::<usize>();
        call.require(count <= LONGEST_SHAPE, "a few elements", count)?;
        let shape = [&constant.shape[..axis], &indices.shape, &constant.shape[axis + 1..]].concat();
        check_rank(call, shape.len())?;
        Ok(Value::Constant(Rc::new(Constant { shape, ..constant.picked(&kept) })))
    }

    /// A part of a shape, in steps that may lead backwards.
    pub(super) fn slice(&mut self, call: &Call<'f>) -> Result<Value> {
        let constant = self.small(call, 0)?;
        let rank = constant.shape.len();
        let none = || call.error("starts and ends", "none");
        let starts = self.integers(call, "starts", 1)?.ok_or_else(none)?;
        let ends = self.integers(call, "ends", 2)?.ok_or_else(none)?;
        let axes = self.integers(call, "axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self.integers(call, "steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
        let lengths = [starts.len(), ends.len(), axes.len(), steps.len()];
        let agree = lengths.iter().all(|&length| length == lengths[0] && length <= rank);
        call.require(agree, "a start, an end, an axis and a step for each dimension", lengths)?;
        call.require(!steps.contains(&0), "steps other than 0", &steps)?;
        let mut kept = constant.positions();
        for (((axis, start), end), step) in axes.into_iter().zip(starts).zip(ends).zip(steps) {
            let axis = call.axis(axis, rank)?;
            kept[axis] = walk(start, end, step, constant.shape[axis]);
        }
        Ok(Value::Constant(Rc::new(constant.picked(&kept))))
    }

    /// Shapes one behind the other.
    pub(super) fn concat_constants(&self, call: &Call<'f>, axis: i64) -> Result<Value> {
        let parts: Vec<_> =
            (0..call.node.input.len()).map(|index| self.small(call, index)).collect::<Result<_>>()?;
        let first = parts.first().ok_or_else(|| call.error("1 inputs or more", "fewer"))?;
        let axis = call.axis(axis, first.shape.len())?;
        let others = |shape: &[usize]| [&shape[..axis], &shape[axis + 1..]].concat();
        let fits = |part: &Rc<Constant>| {
            part.shape.len() == first.shape.len() && others(&part.shape) == others(&first.shape)
        };
        call.require(parts.iter().all(fits), "arrays that differ in one length", &first.shape)?;
        let mut shape = first.shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let count = shape.iter().product::<usize>();
        call.require(count <= LONGEST_SHAPE, "a shape of a few dimensions", count)?;
        let inner: usize = shape[axis + 1..].iter().product();
        let outer: usize = shape[..axis].iter().product();
        let mut joined = Vec::with_capacity(count);
        for (place, part) in (0..outer).flat_map(|place| parts.iter().map(move |part| (place, part))) {
            let block = part.shape[axis] * inner;
            joined.extend_from_slice(&part.integer_values()[place * block..(place + 1) * block]);
        }
        Ok(Value::Constant(Rc::new(Constant::integers(shape, joined))))
    }

    /// A few whole numbers, as shapes are computed from.
    fn small(&self, call: &Call<'f>, index: usize) -> Result<Rc<Constant>> {
        let value = self.input(call, index)?;
        let constant = self.resolve(&value)?.ok_or_else(|| {
            call.error(format!("a shape as input {index}"), "a value that depends on the image")
        })?;
        let rank = constant.shape.len();
        let few = |count: usize| count <= LONGEST_SHAPE && (count > 0 || rank == 1); // without elements, any length may be
        match &constant.data {
            Data::Integers(values) if few(values.len()) && rank <= LONGEST_SHAPE => Ok(constant),
            _ => Err(call
                .error(format!("a shape as input {index}"), format!("an array {:?}", constant.shape))
                .into()),
        }
    }

    /// A vector of whole numbers, as shapes are.
    fn shape_input(&self, call: &Call<'f>, index: usize) -> Result<Vec<Option<i64>>> {
        let constant = self.small(call, index)?;
        call.require(constant.shape.len() == 1, &format!("a shape as input {index}"), &constant.shape)?;
        Ok(constant.integer_values().to_vec())
    }
}

/// Refuses arrays of more dimensions than any has: shapes alone would fill memory.
pub(super) fn check_rank(call: &Call, rank: usize) -> Result<()> {
    call.require(rank <= MOST_DIMENSIONS, &format!("at most {MOST_DIMENSIONS} dimensions"), rank)
}

/// The positions from `start` to before `end` in a dimension of so many elements, as Slice counts them:
/// negative ones from behind, and those beyond an end moved to it.
fn walk(start: i64, end: i64, step: i64, length: usize) -> Vec<usize> {
    let length = length as i64;
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let place = |value: i64| {
        let positive = if value < 0 { value.saturating_add(length) } else { value };
        positive.clamp(low, high)
    };
    let (start, end) = (place(start), place(end));
    std::iter::successors(Some(start), |at| at.checked_add(step))
        .take_while(|&at| if step > 0 { at < end } else { at > end })
        .map(|at| at as usize)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_go_as_pythons_do() {
        let all = [
            ((0, i64::MAX, 1), vec![0, 1, 2, 3, 4]),
            ((1, -1, 2), vec![1, 3]),
            ((-1, i64::MIN + 1, -1), vec![4, 3, 2, 1, 0]),
            ((-2, 0, -2), vec![3, 1]),
            ((-9, 2, 1), vec![0, 1]),
            ((-9, i64::MIN, -1), vec![]),
            ((3, 1, 1), vec![]),
            ((0, 5, i64::MAX), vec![0]),
        ];
        for ((start, end, step), expected) in all {
            assert_eq!(walk(start, end, step, 5), expected, "{start}:{end}:{step}");
        }
        assert!(walk(0, 9, 1, 0).is_empty());
        assert!(walk(-1, -9, -1, 0).is_empty());
    }

    #[test]
    fn elements_are_picked_along_every_dimension() {
        let array = Constant::integers(vec![2, 3], (0..6).map(Some).collect());
        let picked = array.picked(&[vec![1, 0], vec![2]]);
        assert_eq!((picked.shape.clone(), picked.whole()), (vec![2, 1], Some(vec![5, 2])));
        assert_eq!(array.transposed(&[1, 0]).whole(), Some(vec![0, 3, 1, 4, 2, 5]));
        assert_eq!(array.picked(&[vec![], vec![0, 1]]).shape, [0, 2]);
    }
}
