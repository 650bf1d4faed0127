//! The pool under schedules that Shuttle draws at random, each atomic access a place where another thread may
//! go on.
//!
//! Shuttle runs one thread at a time, so it finds what goes wrong in some order of sequentially consistent
//! accesses: a part left out or run twice, a wake that is lost, a thread that is waited for forever. What
//! weaker orders allow is checked by Loom, in `tests/handshakes.rs`.

use super::*;
use std::sync::atomic::AtomicU32;

/// Schedules that a test tries, `FOVEA_SCHEDULES` or some thousands.
fn schedules() -> usize {
    std::env::var("FOVEA_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(2000)
}

/// Runs `test` under random schedules, then under ones with few preemptions, which reach deeper.
fn on_every_schedule(test: impl Fn() + Send + Sync + Copy + 'static) {
    shuttle::check_random(test, schedules());
    shuttle::check_pct(test, schedules(), 3);
}

/// Runs regions of these numbers of parts, and panics unless each part runs once on a thread that no other part
/// has.
fn run_regions(pool: &Pool, regions: &[usize]) {
    for &parts in regions {
        let hits: Vec<_> = (0..parts).map(|_| AtomicU32::new(0)).collect();
        let inside: Vec<_> = (0..pool.at_once()).map(|_| AtomicBool::new(false)).collect();
        pool.run(parts, |thread, part| {
            assert!(!inside[thread].swap(true, Ordering::SeqCst), "two parts at a time on thread {thread}");
            hits[part].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            inside[thread].store(false, Ordering::SeqCst);
        });
        assert!(hits.iter().all(|hit| hit.load(std::sync::atomic::Ordering::Relaxed) == 1));
    }
}

#[test]
fn every_part_runs_once_under_every_schedule() {
    on_every_schedule(|| run_regions(&Pool::start(2, 2), &[2, 3, 2]));
    on_every_schedule(|| run_regions(&Pool::start(3, 3), &[5, 2, 3]));
}

#[test]
fn a_pool_that_ends_at_once_wakes_its_workers() {
    on_every_schedule(|| drop(Pool::start(3, 3)));
    on_every_schedule(|| run_regions(&Pool::start(2, 2), &[2]));
}

#[test]
fn where_a_worker_is_refused_every_part_runs_once_under_every_schedule() {
    on_every_schedule(|| {
        let pool = Pool::start_by(3, 3, |index, work| match index {
            1 => thread::Builder::new().spawn(work),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        });
        run_regions(&pool, &[4, 3]);
    });
}

#[test]
fn a_second_caller_and_a_region_inside_a_region_run_alone() {
    on_every_schedule(|| {
        let pool = Arc::new(Pool::start(2, 2));
        let other = Arc::clone(&pool);
        let second = thread::spawn(move || {
            let total = AtomicUsize::new(0);
            other.run(2, |_, part| {
                total.fetch_add(1 + part, Ordering::Relaxed);
            });
            assert_eq!(total.load(Ordering::Relaxed), 3);
        });
        let total = AtomicUsize::new(0);
        pool.run(2, |_, _| {
            pool.run(2, |_, part| {
                total.fetch_add(1 + part, Ordering::Relaxed);
            });
        });
        assert_eq!(total.load(Ordering::Relaxed), 6);
        second.join().unwrap();
    });
}
