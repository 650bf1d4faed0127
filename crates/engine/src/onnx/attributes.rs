//! The attributes of ONNX's nodes, as they are written.

use fovea_formats::onnx::{Attribute, attribute_type};
use fovea_kernels::conv2d::Conv2dShape;

pub fn int(name: &str, value: i64) -> Attribute {
    Attribute { name: name.to_owned(), i: Some(value), r#type: attribute_type::INT, ..Attribute::default() }
}

pub fn float(name: &str, value: f32) -> Attribute {
    Attribute { name: name.to_owned(), f: Some(value), r#type: attribute_type::FLOAT, ..Attribute::default() }
}

pub fn text(name: &str, value: &str) -> Attribute {
    let s = Some(value.to_owned().into());
    Attribute { name: name.to_owned(), s, r#type: attribute_type::STRING, ..Attribute::default() }
}

pub fn ints(name: &str, values: &[usize]) -> Attribute {
    let ints = values.iter().map(|&value| value as i64).collect();
    Attribute { name: name.to_owned(), ints, r#type: attribute_type::INTS, ..Attribute::default() }
}

/// How a convolution's kernel goes over its input, transposed or not.
pub fn sliding(shape: &Conv2dShape) -> Vec<Attribute> {
    vec![
        ints("kernel_shape", &shape.kernel),
        ints("strides", &shape.stride),
        ints("dilations", &shape.dilation),
        pads(shape.padding),
        int("group", shape.groups as i64),
    ]
}

/// ONNX has all beginnings before all ends.
pub fn pads([top, right, bottom, left]: [usize; 4]) -> Attribute {
    ints("pads", &[top, left, bottom, right])
}
