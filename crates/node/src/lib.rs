//! The doors between JavaScript and the engine: convert, call, convert back.
//!
//! Nothing is computed here. A door checks its arguments, hands the work to a thread that may
//! take its time, and turns what comes back into JavaScript values or an error with a code.

mod background;
mod doctor;
mod error;
mod npy;
mod options;
