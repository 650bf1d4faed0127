//! Naive f64 versions of every operation, for tests only.
