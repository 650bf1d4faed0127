//! Datasets, shuffling and prefetch: bytes on disk become batches.
