//! safetensors, NPY and IDX: parse and write, no engine knowledge.
