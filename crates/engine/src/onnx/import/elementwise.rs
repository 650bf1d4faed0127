//! Functions of single values, PReLU, softmax, and operators that change nothing.

use super::Importer;
use super::arithmetic::Pattern;
use super::call::Call;
use super::value::{Constant, Data, Value};
use crate::error::Result;
use crate::ops::{
    Clip, Gelu, HardSigmoid, HardSwish, LeakyRelu, LogSoftmax, Op, Prelu, Relu, Relu6, Sigmoid, Softmax, Tanh,
};
use fovea_formats::onnx::data_type;
use std::rc::Rc;

impl<'f> Importer<'f> {
    pub(super) fn function(&mut self, call: &Call<'f>) -> Result<Value> {
        let map = self.map(call, 0)?;
        let op = match call.node.op_type.as_str() {
            "Relu" => Op::Relu(Relu {}),
            "LeakyRelu" => Op::LeakyRelu(LeakyRelu { slope: call.float("alpha")?.unwrap_or(0.01) }),
            "Sigmoid" => Op::Sigmoid(Sigmoid {}),
            "Tanh" => Op::Tanh(Tanh {}),
            "HardSwish" => Op::HardSwish(HardSwish {}),
            "Gelu" => {
                let approximate = call.text("approximate")?.unwrap_or("none");
                call.require(approximate == "none", "approximate of none", approximate)?;
                Op::Gelu(Gelu {})
            }
            "HardSigmoid" => Op::HardSigmoid(HardSigmoid {
                alpha: call.float("alpha")?.unwrap_or(0.2),
                beta: call.float("beta")?.unwrap_or(0.5),
            }),
            _ => self.clip(call)?,
        };
        Ok(Value::Map(self.add(self.name(&call.name), op, &[&map])?))
    }

    fn clip(&self, call: &Call<'f>) -> Result<Op> {
        let min = self.number(call, "min", 1)?.unwrap_or(f32::MIN);
        let max = self.number(call, "max", 2)?.unwrap_or(f32::MAX);
        Ok(match (min, max) {
            (0.0, 6.0) => Op::Relu6(Relu6 {}),
            (0.0, f32::MAX | f32::INFINITY) => Op::Relu(Relu {}),
            _ => Op::Clip(Clip { min: min.max(f32::MIN), max: max.min(f32::MAX) }),
        })
    }

    /// A slope for each channel, or one for all.
    pub(super) fn prelu(&mut self, call: &Call<'f>) -> Result<Value> {
        let map = self.map(call, 0)?;
        let slope = self.constant_input(call, 1)?.ok_or_else(|| call.error("a slope", "none"))?;
        let (map, pattern) = self.pattern(call, &map, &slope)?;
        let (shared, slopes) = match pattern {
            Pattern::Scalar(slope) => (true, vec![slope]),
            Pattern::Channels(slopes) => (false, slopes),
        };
        let name = self.name_by_weight(call, 1);
        let result = self.add(name.clone(), Op::Prelu(Prelu { shared }), &[&map])?;
        self.store(&name, "weight", vec![slopes.len()], slopes);
        Ok(Value::Map(result))
    }

    /// Over the channels of each pixel; before version 13 over all dimensions from the axis on.
    pub(super) fn softmax(&mut self, call: &Call<'f>) -> Result<Value> {
        let map = self.map(call, 0)?;
        let old = call.opset < 13;
        let axis = call.axis(call.int("axis")?.unwrap_or(if old { 1 } else { -1 }), map.rank())?;
        let others = if old { axis + 1..map.rank() } else { 0..0 };
        let alone = others.into_iter().all(|dim| map.axes(dim).is_empty());
        call.require(alone, "channels from its axis on and nothing else", map.lengths())?;
        let map = self.with_channels(call, map, axis)?;
        let op = if call.node.op_type == "Softmax" {
            Op::Softmax(Softmax {})
        } else {
            Op::LogSoftmax(LogSoftmax {})
        };
        Ok(Value::Map(self.add(self.name(&call.name), op, &[&map])?))
    }

    /// Identity, and a cast that leaves floats floats.
    pub(super) fn same(&mut self, call: &Call<'f>) -> Result<Value> {
        let value = self.input(call, 0)?;
        if call.node.op_type == "Identity" {
            return Ok(value);
        }
        call.int("saturate")?;
        call.text("round_mode")?;
        let to = call.int("to")?.unwrap_or(0) as i32;
        let float = to == data_type::FLOAT;
        let Some(constant) = self.resolve(&value)? else {
            call.require(float, "a cast to f32", to)?;
            return Ok(value);
        };
        let integer = matches!(to, data_type::INT64 | data_type::INT32);
        // What does not fit is cut off in one way or another, which no shape means.
        let fits = |value: i64| to == data_type::INT64 || i32::try_from(value).is_ok();
        let require = |fits: bool| call.require(fits, "values that fit the type they are cast to", "others");
        Ok(match &constant.data {
            Data::Integers(_) if float => {
                self.spend::<f32>(call, &constant.shape)?;
                let floats =
                    constant.floats().ok_or_else(|| call.error("known values", "the number of images"))?;
                Value::Constant(Rc::new(Constant {
                    shape: constant.shape.clone(),
                    data: Data::Floats(floats),
                }))
            }
            Data::Integers(values) if integer => {
                require(values.iter().flatten().all(|&value| fits(value)))?;
                value
            }
            Data::Floats(_) | Data::Same(_) if float => value,
            Data::Floats(_) | Data::Same(_) if integer => {
                let values = constant.floats().ok_or_else(|| call.error("a few values", "many"))?;
                let whole = |value: f32| value.abs() < i64::MAX as f32 && fits(value as i64); // a NaN is not less
                require(values.iter().all(|&value| whole(value)))?;
                self.spend::<Option<i64>>(call, &constant.shape)?;
                let whole = values.iter().map(|&value| Some(value as i64)).collect();
                Value::Constant(Rc::new(Constant::integers(constant.shape.clone(), whole)))
            }
            _ => return Err(call.error("a cast to f32, i32 or i64", format!("type {to}")).into()),
        })
    }
}
