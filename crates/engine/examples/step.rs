//! One step of a network on one thread, for tools that count what a processor does, such as valgrind.
//!
//! `step train|infer BATCH fast|strict < GRAPH.json`: plan and warm-up come first; the step that counts runs
//! inside of [`measured`].

#![allow(clippy::print_stderr)] // a program for the terminal

use fovea_engine::{EngineError, Graph, Precision, Session, SessionOptions, StepOptions};
use std::error::Error;
use std::io::read_to_string;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let usage = "Expected train or infer, a batch size, fast or strict, and a graph on standard input.";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, batch, precision] = arguments.as_slice() else { return Err(usage.into()) };
    let batch: usize = batch.parse().map_err(|_| usage)?;
    let precision = match precision.as_str() {
        "fast" => Precision::Fast,
        "strict" => Precision::Strict,
        _ => return Err(usage.into()),
    };
    let graph = Graph::from_json(&read_to_string(std::io::stdin())?)?;
    let options = SessionOptions { threads: Some(1), precision, ..SessionOptions::default() };
    let mut session = Session::new(graph, options)?;
    let images: Vec<f32> = (0..batch * session.image_len()).map(|at| (at % 251) as f32 / 251.0).collect();
    let labels: Vec<u32> = (0..batch as u32).map(|image| image % session.output_len() as u32).collect();
    let mut output = vec![0.0; batch * session.output_len()];
    let mut step: Box<dyn FnMut() -> Result<(), EngineError>> = match mode.as_str() {
        "train" => Box::new(|| session.train_step(&images, &labels, &StepOptions::default()).map(drop)),
        "infer" => Box::new(|| session.predict(&images, batch, &mut output)),
        _ => return Err(usage.into()),
    };
    step()?;
    Ok(measured(&mut step)?)
}

/// What is counted: a call of its own, by whose name a tool can tell when to begin and end.
#[inline(never)]
fn measured(step: &mut dyn FnMut() -> Result<(), EngineError>) -> Result<(), EngineError> {
    step()
}
