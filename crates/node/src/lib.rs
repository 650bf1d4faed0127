//! The doors between JavaScript and the engine: convert, call, convert back.
