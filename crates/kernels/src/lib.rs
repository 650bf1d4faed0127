//! Compute kernels: SIMD, multithreaded, no graph, no I/O, no allocation in a hot call.
