//! Operators that become layers with windows, statistics or channels of their own.

use super::super::layout::Axis;
use super::Importer;
use super::call::Call;
use super::value::{Map, Value};
use super::window::Window;
use crate::error::Result;
use crate::ops::{
    AvgPool, BatchNorm, Concat, Conv, Dropout, GlobalAvgPool, GlobalMaxPool, GroupNorm, Init, LayerNorm,
    LocalResponseNorm, MaxPool, Op, Pad, Padding,
};

impl<'f> Importer<'f> {
    pub(super) fn convolution(&mut self, call: &Call<'f>) -> Result<Value> {
        let (map, spatial) = self.image(call)?;
        let (weight, values) = self.weight(call, 1)?;
        let rank = spatial + 2;
        call.require(
            weight.len() == rank && !weight.contains(&0),
            &format!("a weight of {rank} dimensions"),
            &weight,
        )?;
        let Window { size: kernel, stride, dilation, padding } =
            Window::read(call, spatial, map.shape, Some(&weight[2..]))?;
        let groups = positive(call, "group", call.int("group")?.unwrap_or(1))?;
        let (filters, channels) = (weight[0], weight[1]);
        let expected = format!("{groups} groups of {channels} channels each");
        call.require(channels.checked_mul(groups) == Some(map.shape[2]), &expected, map.shape[2])?;
        let bias = self.vector(call, 2, filters)?;
        let op = Conv {
            filters,
            kernel,
            stride,
            padding,
            dilation,
            groups,
            bias: bias.is_some(),
            init: Init::Kaiming,
            connections: None,
        };
        let name = self.name_by_weight(call, 1);
        let result = self.add(name.clone(), Op::Conv(op), &[&map])?;
        self.store(&name, "weight", vec![filters, channels, kernel[0], kernel[1]], values);
        if let Some(bias) = bias {
            self.store(&name, "bias", vec![filters], bias);
        }
        Ok(Value::Map(result))
    }

    pub(super) fn pool(&mut self, call: &Call<'f>) -> Result<Value> {
        if call.node.op_type == "AveragePool"
            && let Some(value) = self.mean_of_squares(call)?
        {
            return Ok(value);
        }
        let (map, spatial) = self.image(call)?;
        let Window { size, stride, dilation, padding } = Window::read(call, spatial, map.shape, None)?;
        call.require(dilation == [1, 1], "a window without dilation", dilation)?;
        let ceil_mode = call.flag("ceil_mode")?;
        let op = if call.node.op_type == "MaxPool" {
            // It numbers the indices of the maxima, which nothing here reads.
            call.int("storage_order")?;
            Op::MaxPool(MaxPool { size, stride, padding, ceil_mode })
        } else {
            let count_include_pad = call.flag("count_include_pad")?;
            Op::AvgPool(AvgPool { size, stride, padding, ceil_mode, count_include_pad })
        };
        Ok(Value::Map(self.add(self.name(&call.name), op, &[&map])?))
    }

    pub(super) fn global_pool(&mut self, call: &Call<'f>) -> Result<Value> {
        let (map, _) = self.image(call)?;
        if call.node.op_type == "GlobalAveragePool" {
            return Ok(Value::Map(self.add(
                self.name(&call.name),
                Op::GlobalAvgPool(GlobalAvgPool {}),
                &[&map],
            )?));
        }
        Ok(Value::Map(self.add(self.name(&call.name), Op::GlobalMaxPool(GlobalMaxPool {}), &[&map])?))
    }

    /// A mean over pixels; over channels or images there is no layer.
    pub(super) fn reduce_mean(&mut self, call: &Call<'f>) -> Result<Value> {
        let map = self.map(call, 0)?;
        let axes = self.integers(call, "axes", 1)?;
        let keep = call.int("keepdims")?.unwrap_or(1) != 0;
        let nothing = call.flag("noop_with_empty_axes")?;
        let axes = match axes {
            Some(axes) if !axes.is_empty() => axes,
            _ if nothing => return Ok(Value::Map(map)),
            _ => (0..map.rank() as i64).collect(),
        };
        let dims = axes.iter().map(|&axis| call.axis(axis, map.rank())).collect::<Result<Vec<_>>>()?;
        let reduced: Vec<Axis> = dims.iter().flat_map(|&dim| map.axes(dim)).collect();
        let spatial = reduced.iter().all(|axis| matches!(axis, Axis::Height | Axis::Width));
        call.require(spatial && !dims.is_empty(), "axes of pixels", &axes)?;
        let size = [(Axis::Height, 0), (Axis::Width, 1)]
            .map(|(axis, index)| if reduced.contains(&axis) { map.shape[index] } else { 1 });
        let op = if size == [map.shape[0], map.shape[1]] {
            Op::GlobalAvgPool(GlobalAvgPool {})
        } else {
            let padding = Padding::Valid;
            Op::AvgPool(AvgPool { size, stride: size, padding, ceil_mode: false, count_include_pad: false })
        };
        let result = self.add(self.name(&call.name), op, &[&map])?;
        let kept = result.dims.iter().enumerate().filter(|(dim, _)| keep || !dims.contains(dim));
        let dims = kept.map(|(_, axes)| axes.clone()).collect();
        Ok(Value::Map(result.with_dims(dims)))
    }

    pub(super) fn batch_norm(&mut self, call: &Call<'f>) -> Result<Value> {
        let map = self.map(call, 0)?;
        call.require(map.rank() >= 2, "a map with channels", map.rank())?;
        let map = self.with_channels(call, map, 1)?;
        call.only("training_mode", 0)?;
        call.only("spatial", 1)?;
        let epsilon = call.float("epsilon")?.unwrap_or(1e-5);
        // ONNX says how much of the old statistics stays, PyTorch how much of the new ones comes.
        let momentum = 1.0 - call.float("momentum")?.unwrap_or(0.9);
        let name = self.name_by_weight(call, 1);
        let op = Op::BatchNorm(BatchNorm { epsilon, momentum });
        let result = self.add(name.clone(), op, &[&map])?;
        let channels = map.shape[2];
        for (index, suffix) in [(1, "weight"), (2, "bias"), (3, "running_mean"), (4, "running_var")] {
            let values = self.vector(call, index, channels)?;
            let values = values.ok_or_else(|| call.error(format!("a constant as input {index}"), "none"))?;
            self.store(&name, suffix, vec![channels], values);
        }
        Ok(Value::Map(result))
    }

    /// Groups of channels of each image. Before version 21 there was a factor for each group.
    pub(super) fn group_norm(&mut self, call: &Call<'f>) -> Result<Value> {
        let map = self.map(call, 0)?;
        call.require(map.rank() >= 2, "a map with channels", map.rank())?;
        let map = self.with_channels(call, map, 1)?;
        call.require(call.opset >= 21, "operators of version 21 or later", call.opset)?;
        let groups = positive(call, "num_groups", call.int("num_groups")?.unwrap_or(0))?;
        let epsilon = call.float("epsilon")?.unwrap_or(1e-5);
        self.normalization(call, &map, Op::GroupNorm(GroupNorm { groups, epsilon }))
    }

    /// The last dimension, where that is the channels.
    pub(super) fn layer_norm(&mut self, call: &Call<'f>) -> Result<Value> {
        let map = self.map(call, 0)?;
        let axis = call.axis(call.int("axis")?.unwrap_or(-1), map.rank())?;
        let last = (axis + 1..map.rank()).all(|dim| map.axes(dim).is_empty());
        call.require(last, "the channels from its axis on and nothing else", map.lengths())?;
        let map = self.with_channels(call, map, axis)?;
        let epsilon = call.float("epsilon")?.unwrap_or(1e-5);
        self.normalization(call, &map, Op::LayerNorm(LayerNorm { epsilon }))
    }

    /// A normalization with a factor and perhaps a summand for each channel.
    fn normalization(&mut self, call: &Call<'f>, map: &Map, op: Op) -> Result<Value> {
        let name = self.name_by_weight(call, 1);
        let result = self.add(name.clone(), op, &[map])?;
        let channels = map.shape[2];
        let weight = self.vector(call, 1, channels)?;
        let weight = weight.ok_or_else(|| call.error("a constant as input 1", "none"))?;
        let bias = self.vector(call, 2, channels)?.unwrap_or_else(|| vec![0.0; channels]);
        self.store(&name, "weight", vec![channels], weight);
        self.store(&name, "bias", vec![channels], bias);
        Ok(Value::Map(result))
    }

    pub(super) fn local_response_norm(&mut self, call: &Call<'f>) -> Result<Value> {
        let (map, _) = self.image(call)?;
        let size = positive(call, "size", call.int("size")?.unwrap_or(0))?;
        // ONNX and PyTorch put the longer side of an even window at different ends.
        call.require(size % 2 == 1, "an odd size", size)?;
        let op = LocalResponseNorm {
            size,
            alpha: call.float("alpha")?.unwrap_or(1e-4),
            beta: call.float("beta")?.unwrap_or(0.75),
            k: call.float("bias")?.unwrap_or(1.0),
        };
        Ok(Value::Map(self.add(self.name(&call.name), Op::LocalResponseNorm(op), &[&map])?))
    }

    pub(super) fn dropout(&mut self, call: &Call<'f>) -> Result<Value> {
        let map = self.map(call, 0)?;
        call.int("seed")?;
        let rate = self.number(call, "ratio", 1)?.unwrap_or(0.5);
        if let Some(training) = self.constant_input(call, 2)? {
            let off = training.whole().is_some_and(|values| values == [0]);
            call.require(off, "dropout for inference", "training_mode")?;
        }
        Ok(Value::Map(self.add(self.name(&call.name), Op::Dropout(Dropout { rate }), &[&map])?))
    }

    pub(super) fn pad(&mut self, call: &Call<'f>) -> Result<Value> {
        let map = self.map(call, 0)?;
        let mode = call.text("mode")?.unwrap_or("constant");
        call.require(mode == "constant", "padding with a constant", mode)?;
        let value = self.number(call, "value", 2)?.unwrap_or(0.0);
        call.require(value == 0.0, "padding with zeros", value)?;
        let pads = self.integers(call, "pads", 1)?.unwrap_or_default();
        let dims: Vec<usize> = match self.constant_input(call, 3)? {
            None => (0..map.rank()).collect(),
            Some(axes) => {
                let axes = axes.whole().ok_or_else(|| call.error("axes as whole numbers", "others"))?;
                axes.iter().map(|&axis| call.axis(axis, map.rank())).collect::<Result<_>>()?
            }
        };
        call.require(pads.len() == 2 * dims.len(), &format!("{} pads", 2 * dims.len()), pads.len())?;
        let (before, after) = pads.split_at(dims.len());
        let mut padding = [[0; 2]; 3]; // before and after, of height, width and channels
        for ((dim, &before), &after) in dims.into_iter().zip(before).zip(after) {
            let zeros = [before, after].map(usize::try_from);
            let [Ok(before), Ok(after)] = zeros else {
                return Err(call.error("pads of at least 0", format!("{:?}", [before, after])).into());
            };
            if [before, after] == [0, 0] {
                continue;
            }
            let axis = self.axis_of(call, &map, dim)?;
            padding[axis] = [before, after];
        }
        if padding == [[0; 2]; 3] {
            return Ok(Value::Map(map));
        }
        let [[top, bottom], [left, right], channels] = padding;
        let op = Op::Pad(Pad { padding: [top, right, bottom, left], channels });
        Ok(Value::Map(self.add(self.name(&call.name), op, &[&map])?))
    }

    /// Which axis a dimension is: height, width or channels.
    pub(super) fn axis_of(&self, call: &Call<'f>, map: &Map, dim: usize) -> Result<usize> {
        let axes = map.axes(dim);
        match if axes.is_empty() { map.dims[dim].as_slice() } else { axes.as_slice() } {
            [Axis::Height] => Ok(0),
            [Axis::Width] => Ok(1),
            [Axis::Height, Axis::Width] if axes.is_empty() => Ok(1), // of a sequence, whose height is beside it
            [Axis::Channels] => Ok(2),
            [Axis::Channels, ..] if axes.is_empty() => Ok(2),
            _ => Err(call.error("channels, height or width", format!("dimension {dim}")).into()),
        }
    }

    /// Maps behind each other along one dimension.
    pub(super) fn concat(&mut self, call: &Call<'f>) -> Result<Value> {
        let axis = call.int("axis")?.ok_or_else(|| call.error("an axis", "none"))?;
        let values: Vec<Value> =
            (0..call.node.input.len()).map(|index| self.input(call, index)).collect::<Result<_>>()?;
        if values.iter().all(|value| matches!(value, Value::Constant(_) | Value::Initializer(_))) {
            return self.concat_constants(call, axis);
        }
        let mut maps = Vec::with_capacity(values.len());
        for index in 0..values.len() {
            let map = self.map(call, index)?;
            let dim = call.axis(axis, map.rank())?;
            maps.push(self.with_channels(call, map, dim)?);
        }
        if maps.iter().any(|map| map.vector) {
            // A row joins rows only.
            for map in maps.iter_mut().filter(|map| map.rank() == 2 && map.channels_first()) {
                *map = self.flatten(map, &format!("{}.flatten", call.name))?;
            }
        }
        let first = maps[0].clone();
        let aligned = maps.iter().all(|map| map.rank() == first.rank() && map.dims == first.dims);
        call.require(aligned, "maps with the same dimensions", first.lengths())?;
        if maps.len() == 1 {
            return Ok(Value::Map(first));
        }
        let result =
            self.add(self.name(&call.name), Op::Concat(Concat {}), &maps.iter().collect::<Vec<_>>())?;
        Ok(Value::Map(result))
    }

    /// The first input as a map with channels before its pixels, and the number of its spatial dimensions.
    pub(super) fn image(&self, call: &Call<'f>) -> Result<(Map, usize)> {
        let map = self.map(call, 0)?;
        match map.spatial() {
            Some(spatial) => Ok((map, spatial)),
            None => {
                let received = format!("{} dimensions {:?}", map.rank(), map.lengths());
                Err(call
                    .error("a map of batch, channels and one or two dimensions of pixels", received)
                    .into())
            }
        }
    }

    /// A map whose dimension `dim` is that of the channels: as it is, or flattened where all its values are in
    /// it.
    pub(super) fn with_channels(&mut self, call: &Call<'f>, map: Map, dim: usize) -> Result<Map> {
        if map.is_channels(dim) {
            return Ok(map);
        }
        let whole = map.rank() == 2 && dim == 1 && map.channels_first();
        if whole {
            return self.flatten(&map, &format!("{}.flatten", call.name));
        }
        let received = format!("dimension {dim} of {:?} behind the batch", map.lengths());
        Err(call.error("the dimension of the channels", received).into())
    }

    /// A constant vector of so many elements; none where it is left out.
    pub(super) fn vector(&self, call: &Call<'f>, index: usize, len: usize) -> Result<Option<Vec<f32>>> {
        if self.optional(call, index)?.is_none() {
            return Ok(None);
        }
        let (shape, values) = self.weight(call, index)?;
        call.require(shape == [len], &format!("a vector of {len} as input {index}"), &shape)?;
        Ok(Some(values))
    }
}

/// A whole number above 0.
pub(super) fn positive(call: &Call, name: &str, value: i64) -> Result<usize> {
    match usize::try_from(value) {
        Ok(value) if value > 0 => Ok(value),
        _ => Err(call.error(format!("a {name} above 0"), value.to_string()).into()),
    }
}
