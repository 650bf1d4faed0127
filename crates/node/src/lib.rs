//! The doors between JavaScript and the engine: convert, call, convert back.
//!
//! Nothing is computed here. A door checks its arguments, hands the work to a thread that may
//! take its time, and turns what comes back into JavaScript values or an error with a code.

#![cfg_attr(test, allow(dead_code))] // only Node calls the doors, and they are not compiled for Rust's tests

mod abort;
mod background;
mod dataset;
mod describe;
mod doctor;
mod driver;
mod error;
mod evaluate;
mod npy;
mod onnx;
mod options;
mod self_check;
mod session;
mod train;
mod update;
