//! Opens the golden files in tests/golden, which PyTorch made once (tests/golden/make.py says what is in them).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;

/// A golden file: cases with their geometry, and tensors in PyTorch's layouts named `CASE.TENSOR`.
pub struct Golden {
    cases: String,
    tensors: HashMap<String, Tensor>,
}

struct Tensor {
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl Golden {
    /// Reads `tests/golden/NAME.safetensors`; panics with a sentence when it is not what make.py writes.
    pub fn open(name: &str) -> Golden {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
        let path = folder.join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("Expected a golden file {}: {error}.", path.display()));
        Self::parse(&bytes).unwrap_or_else(|error| panic!("Expected {name} as make.py writes it: {error}."))
    }

    fn parse(bytes: &[u8]) -> Result<Golden, String> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let cases = header.metadata().as_ref().and_then(|entries| entries.get("cases")).cloned();
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let mut tensors = HashMap::new();
        for (name, view) in file.tensors() {
            let data = view.data();
            let words = data.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
            let values = match view.dtype() {
                Dtype::F32 => words.map(f32::from_le_bytes).collect(),
                Dtype::I32 => words.map(|word| i32::from_le_bytes(word) as f32).collect(),
                Dtype::U8 => data.iter().map(|&byte| f32::from(byte)).collect(),
                other => return Err(format!("{name} has the type {other:?}")),
            };
            tensors.insert(name, Tensor { shape: view.shape().to_vec(), values });
        }
        Ok(Golden { cases: cases.ok_or("no metadata \"cases\"")?, tensors })
    }

    /// Every case by its name, in the order of the names.
    pub fn cases<T: DeserializeOwned>(&self) -> BTreeMap<String, T> {
        serde_json::from_str(&self.cases)
            .unwrap_or_else(|error| panic!("Expected cases of another form: {error}."))
    }

    /// Names of all tensors that begin with `prefix`, without it, sorted.
    pub fn names(&self, prefix: &str) -> Vec<&str> {
        let mut names: Vec<_> = self.tensors.keys().filter_map(|name| name.strip_prefix(prefix)).collect();
        names.sort_unstable();
        names
    }

    /// PyTorch's shape of a tensor.
    pub fn shape(&self, name: &str) -> &[usize] {
        &self.tensor(name).shape
    }

    /// The values of a tensor in the file's order.
    pub fn values(&self, name: &str) -> &[f32] {
        &self.tensor(name).values
    }

    /// The values of a tensor of integers.
    pub fn integers(&self, name: &str) -> Vec<u32> {
        self.values(name).iter().map(|&value| value as u32).collect()
    }

    /// The values of an `[n, c, h, w]` tensor in the order `[n, h, w, c]`.
    pub fn nhwc(&self, name: &str) -> Vec<f32> {
        let tensor = self.tensor(name);
        let &[batch, channels, height, width] = tensor.shape.as_slice() else {
            panic!("Expected four dimensions for \"{name}\" but received {:?}.", tensor.shape);
        };
        let plane = height * width;
        let mut values = Vec::with_capacity(tensor.values.len());
        for n in 0..batch {
            for pixel in 0..plane {
                values.extend((0..channels).map(|c| tensor.values[(n * channels + c) * plane + pixel]));
            }
        }
        values
    }

    fn tensor(&self, name: &str) -> &Tensor {
        let Some(tensor) = self.tensors.get(name) else { panic!("Expected a tensor \"{name}\".") };
        tensor
    }
}
