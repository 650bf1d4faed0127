//! Random graphs on the engine against the oracle, for minutes or hours: `npm run fuzz:graphs`.
//!
//! `fuzz_graphs --seconds S [--seed N] [--first N] [--cases N] [--all]`, or `--replay FILE` for one case as a
//! failure prints it.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a failure ends it, and it prints what it finds

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/fuzz/mod.rs"]
mod fuzz;

use fovea_kernels::Isa;
use fuzz::{Case, Tally};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Time between lines that say how far it is.
const REPORTED: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let argument = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str| argument(name).map(|value| value.parse::<u64>().unwrap());
    // A panic is a failure like others, but tells where it was.
    std::panic::set_hook(Box::new(|panic| println!("{panic}")));
    if let Some(file) = argument("--replay") {
        return replay(&Case::from_json(&std::fs::read_to_string(file).unwrap()));
    }
    let seed = number("--seed").unwrap_or(1);
    let (first, most) = (number("--first").unwrap_or(0), number("--cases").unwrap_or(u64::MAX));
    let seconds = Duration::from_secs(number("--seconds").unwrap_or(60));
    let sets: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
    println!("seed {seed}, {}", sets.join(", "));
    let all = arguments.iter().any(|argument| argument == "--all");
    let (started, mut reported) = (Instant::now(), Instant::now());
    let (mut tally, mut failures) = (Tally::default(), 0);
    for number in (first..).take_while(|number| number - first < most && started.elapsed() < seconds) {
        if let Err((case, failure)) = fuzz::run(seed, number, &mut tally) {
            let (kind, text, case) = (failure.kind, failure.text, case.to_json());
            println!("\ncase {number} of seed {seed}: {kind}, {text}\n{case}\n");
            failures += 1;
            if !all {
                break;
            }
        }
        if reported.elapsed() > REPORTED {
            reported = Instant::now();
            let rate = tally.cases as f64 / started.elapsed().as_secs_f64();
            println!("{} graphs, {rate:.0} a second", tally.cases);
        }
    }
    report(&tally, started);
    println!("{failures} wrong");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(case: &Case) -> ExitCode {
    match fuzz::check(case, &mut Tally::default()) {
        Ok(()) => {
            println!("right");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{}, {}", failure.kind, failure.text);
            ExitCode::FAILURE
        }
    }
}

fn report(tally: &Tally, started: Instant) {
    let Tally { cases, untrained, skipped, at_kink, tensors, blurred, closest, operations } = tally;
    let seconds = started.elapsed().as_secs_f64();
    println!("{cases} graphs in {seconds:.0} s, {:.1} a second", *cases as f64 / seconds);
    println!("{skipped} skipped for large values, {untrained} that cannot be trained, {at_kink} at a kink");
    println!(
        "{tensors} tensors, {blurred} of them blurred; the largest error took {closest:.2} of its tolerance"
    );
    let counts: Vec<_> = operations.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!("{}", counts.join(", "));
}
