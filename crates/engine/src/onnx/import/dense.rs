//! Matrix products with a constant: dense layers, and convolutions of single pixels where channels come last.

use super::super::layout::{Axis, for_each_flattened};
use super::Importer;
use super::call::Call;
use super::value::{Map, Value};
use crate::error::Result;
use crate::ops::{Conv, Dense, Init, Op, Padding};

impl<'f> Importer<'f> {
    /// `alpha * x * B + beta * C`, B transposed or not.
    pub(super) fn gemm(&mut self, call: &Call<'f>) -> Result<Value> {
        let map = self.map(call, 0)?;
        call.only("transA", 0)?;
        let transposed = call.flag("transB")?;
        let (alpha, beta) = (call.float("alpha")?.unwrap_or(1.0), call.float("beta")?.unwrap_or(1.0));
        call.require(map.rank() == 2, "an input of two dimensions", map.rank())?;
        let mut matrix = self.matrix(call, map.len(), transposed)?;
        if alpha != 1.0 {
            matrix.values.iter_mut().for_each(|value| *value *= alpha);
        }
        let bias = match self.optional(call, 2)? {
            None => None,
            Some(_) => {
                let (shape, values) = self.weight(call, 2)?;
                let units = matrix.units;
                let row = matches!(shape[..], [length] | [1, length] if length == units);
                let single = matches!(shape[..], [] | [1] | [1, 1]);
                call.require(row || single, &format!("a bias of {units}"), &shape)?;
                let value = |index: usize| beta * if row { values[index] } else { values[0] };
                Some((0..units).map(value).collect())
            }
        };
        self.dense(call, &map, matrix, bias)
    }

    pub(super) fn matmul(&mut self, call: &Call<'f>) -> Result<Value> {
        if let Some(value) = self.pool_to_size(call)? {
            return Ok(value);
        }
        let map = self.map(call, 0)?;
        if map.rank() == 2 {
            let matrix = self.matrix(call, map.len(), false)?;
            return self.dense(call, &map, matrix, None);
        }
        let last = map.rank().saturating_sub(1);
        call.require(
            map.rank() > 2 && map.is_channels(last),
            "channels in the last dimension",
            map.lengths(),
        )?;
        let Matrix { units, inputs, values } = self.matrix(call, map.shape[2], false)?;
        let name = self.name_by_weight(call, 1);
        let op = Conv {
            filters: units,
            kernel: [1, 1],
            stride: [1, 1],
            padding: Padding::Valid,
            dilation: [1, 1],
            groups: 1,
            bias: false,
            init: Init::Kaiming,
            connections: None,
        };
        let result = self.add(name.clone(), Op::Conv(op), &[&map])?;
        self.store(&name, "weight", vec![units, inputs, 1, 1], values);
        Ok(Value::Map(result))
    }

    /// The second input as PyTorch has it: a row of so many inputs for each unit.
    fn matrix(&self, call: &Call<'f>, inputs: usize, transposed: bool) -> Result<Matrix> {
        let (shape, values) = self.weight(call, 1)?;
        let (units, received) = match shape[..] {
            [units, inputs] if transposed => (units, inputs),
            [inputs, units] => (units, inputs),
            _ => return Err(call.error("a matrix as input 1", format!("{shape:?}")).into()),
        };
        call.require(received == inputs && units > 0, &format!("a matrix for {inputs} values"), &shape)?;
        let rows = if transposed {
            values
        } else {
            let mut rows = vec![0.0; values.len()];
            for (input, row) in values.chunks_exact(units).enumerate() {
                for (unit, &value) in row.iter().enumerate() {
                    rows[unit * inputs + input] = value;
                }
            }
            rows
        };
        Ok(Matrix { units, inputs, values: rows })
    }

    /// A dense layer on all values of a map. Its weight counts them channel by channel, whatever ONNX's order
    /// is.
    fn dense(&mut self, call: &Call<'f>, map: &Map, matrix: Matrix, bias: Option<Vec<f32>>) -> Result<Value> {
        let Matrix { units, inputs, values } = matrix;
        let values = if map.vector || map.channels_first() {
            values
        } else {
            let mut ordered = vec![0.0; values.len()];
            for (from, to) in values.chunks_exact(inputs).zip(ordered.chunks_exact_mut(inputs)) {
                for_each_flattened(map.shape, map.order(), |outside, file| to[file] = from[outside]);
            }
            ordered
        };
        let name = self.name_by_weight(call, 1);
        let flat = self.flatten(map, &format!("{name}.flatten"))?;
        let op = Dense { units, bias: bias.is_some(), init: Init::Kaiming };
        let result = self.add(name.clone(), Op::Dense(op), &[&flat])?;
        self.store(&name, "weight", vec![units, inputs], values);
        if let Some(bias) = bias {
            self.store(&name, "bias", vec![units], bias);
        }
        let dims = vec![vec![Axis::Batch], vec![Axis::Channels]];
        Ok(Value::Map(result.with_dims(dims)))
    }
}

/// A weight with a row of `inputs` values for each of `units`.
struct Matrix {
    units: usize,
    inputs: usize,
    values: Vec<f32>,
}
