//! The border between ONNX's arrays and the engine's.

use serde::Serialize;

/// What a dimension of an ONNX array stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Batch,
    Channels,
    Height,
    Width,
}

/// Channels before pixels, as ONNX, PyTorch and files of weights have it.
pub(super) const CHANNELS_FIRST: [Axis; 3] = [Axis::Channels, Axis::Height, Axis::Width];

/// Channels after pixels, as the engine has it.
pub(super) const CHANNELS_LAST: [Axis; 3] = [Axis::Height, Axis::Width, Axis::Channels];

/// Length of an axis of a map `[height, width, channels]`.
pub(super) fn length(shape: [usize; 3], axis: Axis) -> usize {
    match axis {
        Axis::Height => shape[0],
        Axis::Width => shape[1],
        Axis::Channels => shape[2],
        Axis::Batch => 1,
    }
}

/// How the elements of an ONNX array lie in the engine's array of the same values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Lengths of ONNX's dimensions without the batch.
    dims: Vec<usize>,
    #[serde(skip)]
    part: Part,
}

/// Elements that three nested loops visit in ONNX's order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    /// Length and, in the engine's array, distance of each loop, the outermost first.
    loops: [(usize, usize); 3],
}

impl Part {
    /// A map whose axes ONNX has in the order `outside` and memory in the order `inside`.
    fn new(shape: [usize; 3], outside: [Axis; 3], inside: [Axis; 3]) -> Self {
        let distance = |axis| {
            let inner = inside.into_iter().skip_while(|&each| each != axis).skip(1);
            inner.map(|axis| length(shape, axis)).product()
        };
        Self { loops: outside.map(|axis| (length(shape, axis), distance(axis))) }
    }

    fn len(&self) -> usize {
        self.loops.iter().map(|&(length, _)| length).product()
    }
}

impl Layout {
    /// A feature map whose axes ONNX has in this order.
    pub(super) fn map(dims: Vec<usize>, shape: [usize; 3], axes: [Axis; 3]) -> Self {
        Self { dims, part: Part::new(shape, axes, CHANNELS_LAST) }
    }

    /// Lengths of ONNX's dimensions without the batch.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Values of one image.
    pub fn image_len(&self) -> usize {
        self.part.len()
    }

    /// Any whole number of images in the engine's order.
    pub fn to_engine(&self, values: &[f32]) -> Vec<f32> {
        let mut engine = vec![0.0; values.len()];
        self.for_each(values.len(), |outside, inside| engine[inside] = values[outside]);
        engine
    }

    /// Any whole number of images in ONNX's order.
    pub fn from_engine(&self, values: &[f32]) -> Vec<f32> {
        let mut onnx = vec![0.0; values.len()];
        self.for_each(values.len(), |outside, inside| onnx[outside] = values[inside]);
        onnx
    }

    /// Calls `each(index outside, index inside)` for every element of all whole images in an array of `len`
    /// values.
    fn for_each(&self, len: usize, each: impl FnMut(usize, usize)) {
        visit(&self.part, len, each);
    }
}

/// Calls `each(index outside, index of the weight file)` for the elements of a flattened map: ONNX has its axes
/// in the order `axes`, files of weights have channels first.
pub(super) fn for_each_flattened(shape: [usize; 3], axes: [Axis; 3], each: impl FnMut(usize, usize)) {
    visit(&Part::new(shape, axes, CHANNELS_FIRST), shape.iter().product(), each);
}

fn visit(part: &Part, len: usize, mut each: impl FnMut(usize, usize)) {
    let [(outer, far), (middle, near), (inner, step)] = part.loops;
    let image = part.len();
    for start in (0..len / image.max(1)).map(|index| index * image) {
        let mut outside = start;
        for outer in 0..outer {
            for middle in 0..middle {
                let begin = start + outer * far + middle * near;
                for inner in 0..inner {
                    each(outside, begin + inner * step);
                    outside += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_first_becomes_channels_last_and_back_image_by_image() {
        let layout = Layout::map(vec![2, 1, 3], [1, 3, 2], CHANNELS_FIRST);
        let onnx: Vec<f32> = (0..12).map(|value| value as f32).collect();
        let engine = layout.to_engine(&onnx);
        assert_eq!(engine[..6], [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(engine[6..], [6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
        assert_eq!(layout.from_engine(&engine), onnx);
        assert_eq!(Layout::map(vec![1, 3, 2], [1, 3, 2], CHANNELS_LAST).to_engine(&onnx), onnx);
    }

    #[test]
    fn weights_behind_a_flattened_channels_last_map_find_their_place() {
        let mut places = Vec::new();
        for_each_flattened([1, 2, 3], CHANNELS_LAST, |_, file| places.push(file));
        assert_eq!(places, [0, 2, 4, 1, 3, 5]);
    }
}
