use super::*;
use crate::onnx::scan::MOST_PARTS;

fn entry(key: &str, value: &str) -> StringStringEntry {
    StringStringEntry { key: key.into(), value: value.into() }
}

/// A model with one node of each kind of attribute and a weight.
fn model() -> Model {
    let attribute =
        Attribute { name: "axis".into(), i: Some(0), r#type: attribute_type::INT, ..Default::default() };
    let node = Node {
        input: vec!["x".into(), "w".into()],
        output: vec!["y".into()],
        op_type: "Concat".into(),
        attribute: vec![attribute],
        ..Default::default()
    };
    let dim = [None, Some(3)].map(|dim_value| Dimension { dim_value, ..Default::default() }).to_vec();
    let tensor = TensorType { elem_type: data_type::FLOAT, shape: Some(Shape { dim }) };
    let value = ValueInfo { name: "x".into(), r#type: Some(Type { tensor_type: Some(tensor) }) };
    let graph = Graph {
        node: vec![node],
        initializer: vec![Tensor::floats("w", &[1, 3], &[1.0, -2.0, 0.5]), Tensor::integers("s", &[-1, 7])],
        input: vec![value],
        ..Default::default()
    };
    let opset_import = vec![OperatorSet { domain: Some(String::new()), version: 17 }];
    Model { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() }
}

fn values(tensor: &Tensor) -> Result<Values, String> {
    let file = File::parse("x.onnx", model().encode_to_vec()).unwrap();
    file.values(tensor).map_err(|error| error.to_string())
}

fn refusal(bytes: &[u8]) -> String {
    File::parse("x.onnx", bytes.to_vec()).unwrap_err().to_string()
}

#[test]
fn what_is_written_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.onnx");
    assert_eq!(write(&path, &model()).unwrap(), model().encoded_len() as u64);
    let read = File::open(&path).unwrap();
    assert_eq!(read.model, model());
    let initializers = &read.model.graph.as_ref().unwrap().initializer;
    assert_eq!(read.shape(&initializers[0]).unwrap(), [1, 3]);
    assert_eq!(read.values(&initializers[0]).unwrap(), Values::Floats(vec![1.0, -2.0, 0.5]));
    assert_eq!(read.values(&initializers[1]).unwrap(), Values::Integers(vec![-1, 7]));
}

#[test]
fn every_type_is_read_raw_and_typed() {
    use data_type::*;
    let tensor = |data_type| Tensor { dims: vec![2], data_type, ..Default::default() };
    let raw = |data_type, bytes: &[u8]| {
        values(&Tensor { raw_data: Some(Bytes::copy_from_slice(bytes)), ..tensor(data_type) }).unwrap()
    };
    let words = |data_type, words: [i32; 2]| {
        values(&Tensor { int32_data: words.to_vec(), ..tensor(data_type) }).unwrap()
    };
    let floats = Values::Floats(vec![1.0, -2.0]);
    assert_eq!(raw(FLOAT, &[0, 0, 128, 63, 0, 0, 0, 192]), floats);
    assert_eq!(raw(FLOAT16, &[0, 0x3c, 0, 0xc0]), floats);
    assert_eq!(raw(BFLOAT16, &[0x80, 0x3f, 0, 0xc0]), floats);
    assert_eq!(raw(DOUBLE, bytemuck::cast_slice(&[1.0f64, -2.0])), floats);
    assert_eq!(words(FLOAT16, [0x3c00, 0xc000]), floats);
    assert_eq!(words(BFLOAT16, [0x3f80, 0xc000]), floats);
    assert_eq!(values(&Tensor { float_data: vec![1.0, -2.0], ..tensor(FLOAT) }).unwrap(), floats);
    assert_eq!(values(&Tensor { double_data: vec![1.0, -2.0], ..tensor(DOUBLE) }).unwrap(), floats);

    let integers = Values::Integers(vec![1, -2]);
    assert_eq!(raw(INT8, &[1, 254]), integers);
    assert_eq!(raw(INT16, bytemuck::cast_slice(&[1i16, -2])), integers);
    assert_eq!(raw(INT32, bytemuck::cast_slice(&[1i32, -2])), integers);
    assert_eq!(raw(INT64, bytemuck::cast_slice(&[1i64, -2])), integers);
    assert_eq!(words(INT32, [1, -2]), integers);
    assert_eq!(values(&Tensor { int64_data: vec![1, -2], ..tensor(INT64) }).unwrap(), integers);
    let unsigned = Values::Integers(vec![1, 254]);
    assert_eq!(raw(UINT8, &[1, 254]), unsigned);
    assert_eq!(raw(UINT16, bytemuck::cast_slice(&[1u16, 254])), unsigned);
    assert_eq!(raw(UINT32, bytemuck::cast_slice(&[1u32, 254])), unsigned);
    assert_eq!(raw(UINT64, bytemuck::cast_slice(&[1u64, 254])), unsigned);
    assert_eq!(values(&Tensor { uint64_data: vec![1, 254], ..tensor(UINT64) }).unwrap(), unsigned);
    assert_eq!(raw(BOOL, &[1, 0]), Values::Integers(vec![1, 0]));
}

#[test]
fn values_that_do_not_fill_their_shape_or_their_type_are_refused() {
    let tensor = Tensor { name: "w".into(), ..Tensor::floats("w", &[2], &[1.0, 2.0]) };
    let message = |tensor: Tensor| values(&tensor).unwrap_err();
    assert_eq!(
        message(Tensor { dims: vec![3], ..tensor.clone() }),
        "Expected 12 bytes in \"w\" [3] for \"x.onnx\" but received 8."
    );
    assert_eq!(
        message(Tensor { dims: vec![-1], ..tensor.clone() }),
        "Expected a shape of less than 2^40 elements in \"w\" for \"x.onnx\" but received [-1]."
    );
    assert!(message(Tensor { dims: vec![i64::MAX, i64::MAX], ..tensor.clone() }).contains("2^40"));
    assert!(message(Tensor { dims: vec![0, 1 << 62], ..tensor.clone() }).contains("2^40"));
    assert!(message(Tensor { raw_data: None, ..tensor.clone() }).contains("2 values in \"w\" [2]"));
    assert_eq!(
        message(Tensor { data_type: 8, ..tensor.clone() }),
        "Expected a tensor of floats or integers in \"w\" for \"x.onnx\" but received data type 8."
    );
    let large = Tensor {
        dims: vec![1],
        data_type: data_type::DOUBLE,
        double_data: vec![1e300],
        ..Default::default()
    };
    assert!(message(large).ends_with("but received 1e300."));
    let large = Tensor {
        dims: vec![1],
        data_type: data_type::UINT64,
        uint64_data: vec![u64::MAX],
        ..Default::default()
    };
    assert!(message(large).contains("below 2^63"));
}

#[test]
fn external_values_are_read_from_below_the_directory_and_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("model");
    fs::create_dir_all(inside.join("data")).unwrap();
    fs::write(inside.join("data/weights"), [[0; 8].as_slice(), &1.5f32.to_le_bytes(), &[9; 3]].concat())
        .unwrap();
    fs::write(directory.path().join("secret"), [0; 4]).unwrap();
    let path = inside.join("x.onnx");
    write(&path, &model()).unwrap();
    let file = File::open(&path).unwrap();
    let read = |location: &str, offset: &str, length: &str| {
        let external_data =
            vec![entry("location", location), entry("offset", offset), entry("length", length)];
        let tensor =
            Tensor { external_data, data_location: 1, raw_data: None, ..Tensor::floats("w", &[1], &[0.0]) };
        file.values(&tensor).map_err(|error| error.to_string())
    };
    assert_eq!(read("data/weights", "8", "4").unwrap(), Values::Floats(vec![1.5]));
    for outside in ["../secret", "data/../../secret", &directory.path().join("secret").display().to_string()]
    {
        let message = read(outside, "0", "4").unwrap_err();
        assert!(message.starts_with("Expected external data below the model's directory"), "{message}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("../secret", inside.join("link")).unwrap();
        assert!(read("link", "0", "4").unwrap_err().contains("below the model's directory"));
    }
    assert!(read("none", "0", "4").unwrap_err().starts_with("Could not open"));
    assert!(read("data", "0", "4").unwrap_err().contains("a directory"));
    assert!(read("data/weights", "12", "4").unwrap_err().contains("at least 16 bytes"));
    assert!(read("data/weights", &u64::MAX.to_string(), "4").unwrap_err().contains("at least"));
    assert!(read("data/weights", "x", "4").unwrap_err().contains("a whole number as offset"));
    assert!(read("data/weights", "0", "8").unwrap_err().contains("4 bytes in \"w\""));
    let memory = File::parse("x.onnx", model().encode_to_vec()).unwrap();
    let external = Tensor {
        external_data: vec![entry("location", "data/weights")],
        data_location: 1,
        ..Tensor::floats("w", &[1], &[0.0])
    };
    assert!(memory.values(&external).unwrap_err().to_string().contains("in the model itself"));
}

#[test]
fn a_file_cut_anywhere_or_with_a_flipped_bit_is_refused_or_read_but_never_panics() {
    let whole = model().encode_to_vec();
    for length in 0..whole.len() {
        let cut = File::parse("x.onnx", whole[..length].to_vec());
        assert!(cut.is_err() || cut.unwrap().model != model(), "{length}");
    }
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(file) = File::parse("x.onnx", bytes) {
            for tensor in &file.model.graph.as_ref().unwrap().initializer {
                let _ = file.values(tensor);
            }
        }
    }
}

#[test]
fn files_of_too_many_parts_and_files_that_are_none_are_refused() {
    assert_eq!(
        refusal(b"PK\x03\x04"),
        "Expected an ONNX model for \"x.onnx\" but received 4 bytes that are no protocol buffer."
    );
    assert_eq!(refusal(b""), "Expected an ONNX model for \"x.onnx\" but received 0 bytes without a graph.");
    // A graph of empty nodes, two bytes each.
    let nodes = [0x0a, 0x00].repeat(MOST_PARTS + 1);
    let mut bytes = vec![7 << 3 | 2];
    prost::encoding::encode_varint(nodes.len() as u64, &mut bytes);
    bytes.extend(nodes);
    assert!(refusal(&bytes).ends_with("but received one of more than 1048576 parts."));
    // A graph that says it is longer than the file.
    assert!(refusal(&[7 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0x7f]).contains("no protocol buffer"));
}
