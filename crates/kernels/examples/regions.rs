//! What a parallel region costs, and what a pool gains or loses with more threads than one.
//!
//! `cargo run --release -p fovea-kernels --example regions`: for 1, 2, 3, 4 and 8 threads, a region that
//! follows the one before at once (hot), one after a pause in which the workers have parked (cold), and a pass
//! of work over the same work on one thread, in regions as short as those of small networks. While a number of
//! other threads keeps the cores busy, if one is given.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // a program for the terminal

use fovea_kernels::Pool;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Rounds of which the median counts.
const ROUNDS: usize = 15;

/// Hot regions of a round.
const REGIONS: u32 = 2000;

/// Longer than workers spin.
const PAUSE: Duration = Duration::from_micros(500);

fn main() {
    let others: usize = std::env::args().nth(1).map_or(0, |count| count.parse().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..others)
        .map(|_| Arc::clone(&stop))
        .map(|stop| std::thread::spawn(move || while !stop.load(Ordering::Relaxed) {}))
        .collect();
    println!(
        "{} cores, {} competing threads: microseconds a region, median of {ROUNDS} rounds",
        Pool::default_threads(),
        others.len()
    );
    println!("threads      hot     cold   of 1 us   of 5 us  of 50 us");
    let alone = Pool::new(1);
    for threads in [1, 2, 3, 4, 8] {
        let pool = Pool::new(threads);
        print!("{threads:7} {:8.3}", hot(&pool, 0));
        print!(" {:8.1}", cold(&pool));
        for microseconds in [1, 5, 50] {
            let work = spins(microseconds);
            print!("   {:6.2}x", hot(&pool, work) / hot(&alone, work));
        }
        println!();
    }
    stop.store(true, Ordering::Relaxed);
    others.into_iter().for_each(|other| other.join().unwrap());
}

/// Microseconds of a region of eight parts that together do `work`, one region after the other.
fn hot(pool: &Pool, work: usize) -> f64 {
    let regions = if work == 0 { REGIONS } else { REGIONS / 10 };
    median((0..ROUNDS).map(|_| {
        let start = Instant::now();
        (0..regions).for_each(|_| pool.run(8, |_, _| spin(work / 8)));
        start.elapsed().as_secs_f64() * 1e6 / f64::from(regions)
    }))
}

/// Microseconds of an empty region after a pause.
fn cold(pool: &Pool) -> f64 {
    median((0..10 * ROUNDS).map(|_| {
        std::thread::sleep(PAUSE);
        let start = Instant::now();
        pool.run(8, |_, _| spin(0));
        start.elapsed().as_secs_f64() * 1e6
    }))
}

/// Work that no memory takes part in.
fn spin(steps: usize) {
    for step in 0..steps {
        black_box(step);
    }
}

/// Steps of [`spin`] in so many microseconds.
fn spins(microseconds: usize) -> usize {
    const STEPS: usize = 1 << 20;
    let fastest = (0..5).map(|_| {
        let start = Instant::now();
        spin(STEPS);
        start.elapsed().as_secs_f64() * 1e6
    });
    (STEPS as f64 / fastest.fold(f64::INFINITY, f64::min) * microseconds as f64) as usize
}

fn median(times: impl Iterator<Item = f64>) -> f64 {
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
