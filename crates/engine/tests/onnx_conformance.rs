//! The backend node tests of the `onnx` package, for the operators that convolutional networks are made of.
//!
//! tests/conformance/make.py says where the cases come from. Each is either computed as ONNX says or refused
//! with the sentence that stands in node_tests.txt; none is computed wrong.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

use fovea_engine::onnx::{ImportOptions, OnnxModel};
use fovea_engine::{Session, SessionOptions};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

/// Cases that are computed, and cases that are refused.
const SUPPORTED: usize = 111;
const UNSUPPORTED: usize = 283;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance")
}

/// A tensor of the file: its shape and values.
fn floats(file: &SafeTensors, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
    let tensor = file.tensor(name).ok()?;
    let values = tensor.data().as_chunks().0.iter().copied().map(f32::from_le_bytes);
    Some((tensor.shape().to_vec(), values.collect()))
}

/// What a model makes of an array of its own layout: shape and values of the result, or why it makes nothing.
fn compute(
    name: &str,
    model: &[u8],
    x: Option<(Vec<usize>, Vec<f32>)>,
) -> Result<(Vec<usize>, Vec<f32>), String> {
    let model = OnnxModel::parse(name, model.to_vec(), &ImportOptions::default());
    let model = model.map_err(|error| error.to_string())?;
    let (shape, x) = x.ok_or("Expected f32 but the case has another type, which was not refused.")?;
    let options = SessionOptions { threads: Some(1), ..SessionOptions::default() };
    let mut session = Session::new(model.graph.clone(), options).map_err(|error| error.to_string())?;
    session.load_onnx(&model).map_err(|error| error.to_string())?;
    let count = shape[0];
    let mut output = vec![0.0; count * session.output_len()];
    let images = model.input.layout.to_engine(&x);
    session.predict(&images, count, &mut output).map_err(|error| error.to_string())?;
    let dims = [&[count], model.output.layout.dims()].concat();
    Ok((dims, model.output.layout.from_engine(&output)))
}

/// The line of a case, and whether it is right.
fn judge(file: &SafeTensors, name: &str) -> (String, bool) {
    let model = file.tensor(&format!("{name}.model")).unwrap().data().to_vec();
    match (compute(name, &model, floats(file, &format!("{name}.x"))), floats(file, &format!("{name}.y"))) {
        (Err(reason), _) => (format!("unsupported {name}: {reason}"), !reason.contains("was not refused")),
        (Ok((dims, values)), Some((shape, expected))) => {
            let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            // Some expectations are written with four digits: the package itself allows 1e-3 of each.
            let allowed = |expected: f32| (1e-5 * largest).max(1e-3 * expected.abs()) + 1e-7;
            let mut pairs = values.iter().zip(&expected);
            let difference = pairs.find(|&(value, &expected)| (value - expected).abs() > allowed(expected));
            match difference {
                _ if dims != shape => (format!("wrong {name}: {dims:?} instead of {shape:?}"), false),
                Some((value, expected)) => (format!("wrong {name}: {value} instead of {expected}"), false),
                None => (format!("supported {name}"), true),
            }
        }
        (Ok(_), None) => (format!("wrong {name}: computed, though its result is no f32"), false),
    }
}

#[test]
fn networks_that_pytorch_exported_compute_what_pytorch_does() {
    let bytes = std::fs::read(folder().join("../golden/onnx_models.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let names = file.names();
    let cases: Vec<&str> = names.into_iter().filter_map(|name| name.strip_suffix(".model")).collect();
    assert_eq!(cases.len(), 19, "{cases:?}");
    let lines: Vec<(String, bool)> = cases.iter().map(|case| judge(&file, case)).collect();
    let wrong: Vec<_> = lines.iter().filter(|(line, _)| !line.starts_with("supported")).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_node_test_is_computed_as_onnx_says_or_refused_by_name() {
    let bytes = std::fs::read(folder().join("node_tests.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<&str> =
        file.names().into_iter().filter_map(|name| name.strip_suffix(".model")).collect();
    names.sort_unstable();
    let lines: Vec<(String, bool)> = names.iter().map(|name| judge(&file, name)).collect();
    let wrong: Vec<&String> = lines.iter().filter(|(_, right)| !right).map(|(line, _)| line).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");

    let found: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("node_tests.txt");
    std::fs::write(&path, &found).unwrap();
    let committed = std::fs::read_to_string(folder().join("node_tests.txt")).unwrap_or_default();
    let differing = found.lines().zip(committed.lines()).find(|(found, committed)| found != committed);
    assert_eq!(
        differing,
        None,
        "if {} is better than tests/conformance/node_tests.txt, commit it",
        path.display()
    );
    assert_eq!(found.lines().count(), committed.lines().count(), "{}", path.display());
    let supported = found.lines().filter(|line| line.starts_with("supported")).count();
    assert_eq!((supported, names.len() - supported), (SUPPORTED, UNSUPPORTED));
}
