//! A pool of threads for regions that last microseconds.
//!
//! [`Pool::run`] cuts a region into `parts` that the caller chose by shape. Each thread has a share of them, a
//! contiguous range, so that it finds in its cache what it wrote in the region before. The share of a worker
//! that has not come yet, asleep or descheduled, is taken by whoever is done first, and the caller takes parts
//! of those who are late; so a region never waits for a part that nobody has begun. The caller is thread 0.
//! Workers spin for some tens of microseconds after a region, since the next one of the same step follows at
//! once (a hot region costs well under a microsecond to start and join), then park.
//!
//! Which thread runs a part never changes what the part computes, so results do not depend on the number of
//! threads. While a region runs, its threads treat subnormal numbers as zero, as `subnormals` explains.

use crate::subnormals::FlushSubnormals;
use std::cell::UnsafeCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;
use system::{Arc, AtomicBool, AtomicU8, AtomicUsize, JoinHandle, Mutex, Ordering, Thread};
use system::{PoisonError, spin_until, thread};

/// What the pool is made of, by the standard library.
#[cfg(not(all(test, fovea_shuttle)))]
mod system {
    pub use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
    pub use std::sync::{Arc, Mutex, PoisonError};
    pub use std::thread::{self, JoinHandle, Thread};
    use std::time::{Duration, Instant};

    /// Spins between two looks at the clock.
    const SPINS_A_LOOK: u32 = 128;

    /// Spins until `holds`, which it returns, or until so much time has passed.
    pub fn spin_until(limit: Duration, holds: impl Fn() -> bool) -> bool {
        let (mut spins, mut start) = (0u32, None);
        while !holds() {
            std::hint::spin_loop();
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(SPINS_A_LOOK) && start.get_or_insert_with(Instant::now).elapsed() >= limit
            {
                return holds();
            }
        }
        true
    }
}

/// The same by Shuttle, which runs the tests in `shuttle_tests` under schedules of its own choice.
#[cfg(all(test, fovea_shuttle))]
mod system {
    pub use shuttle::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
    pub use shuttle::sync::{Arc, Mutex};
    pub use shuttle::thread::{self, JoinHandle, Thread};
    pub use std::sync::PoisonError;
    use std::time::Duration;

    /// There is no time: it passes after two looks, between which others run.
    pub fn spin_until(_: Duration, holds: impl Fn() -> bool) -> bool {
        if !holds() {
            thread::yield_now();
        }
        holds()
    }
}

/// How long a worker spins before it parks: longer than the serial parts between two regions of a step.
const SPIN: Duration = Duration::from_micros(80);

/// How long the caller spins for the workers before it sleeps. On a machine with more runnable threads than
/// cores the missing worker was descheduled in the middle of a part; a core that falls idle fetches it at once,
/// whereas one that spins or yields leaves it waiting for a whole slice of the scheduler, some milliseconds.
const CALLER_SPIN: Duration = Duration::from_micros(30);

/// How long the caller waits for a worker's share before it takes parts of it: longer than the workers of a
/// short region differ, to whom the caller's looking at their counters is a delay.
const LATE: Duration = Duration::from_micros(2);

/// A region: the body, how many parts it has, and among how many threads they are shared. The body's lifetime
/// is erased; `Pool::run` outlives every use.
#[derive(Clone, Copy)]
struct Region {
    body: *const (dyn Fn(usize, usize) + Sync),
    parts: usize,
    threads: usize,
}

/// A thread's place in the pool. What the caller and the worker hand to each other lies on one cache line, what
/// only one of them writes in a short region on another.
#[derive(Default)]
#[repr(align(128))]
struct Seat {
    region: UnsafeCell<Option<Region>>,
    /// Whether its worker may use the region: one of the constants below.
    state: AtomicU8,
    /// Whether its worker is parked or about to be.
    parked: AtomicBool,
    share: Share,
}

#[derive(Default)]
#[repr(align(128))]
struct Share {
    /// Parts that somebody has taken; more than there are when somebody looked in vain.
    taken: AtomicUsize,
}

/// There is no region for this worker.
const IDLE: u8 = 0;
/// There is one, which it may join, or another thread may run its share.
const OFFERED: u8 = 1;
/// It has joined.
const JOINING: u8 = 2;
/// It has joined, and others may take parts of its share.
const JOINED: u8 = 3;
/// There will be none any more.
const ENDED: u8 = 4;

/// What the caller and the workers share.
struct Shared {
    /// One a thread, the caller's first. Those of workers that the system refused are the last and stay empty.
    seats: Vec<Seat>,
    /// Whether the caller sleeps, or is about to, until a worker wakes it.
    caller_sleeps: AtomicBool,
    caller: Mutex<Option<Thread>>,
    panicked: AtomicBool,
}

// SAFETY: a seat's region is written by the caller while the seat is IDLE, before the releasing store of
// OFFERED, and read by its worker after that has made it JOINING; everything else is atomic.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in a region is used only during the call of `run` that stored it.
unsafe impl Send for Shared {}

/// Threads that run the parts of a region together with the caller.
pub struct Pool {
    shared: Arc<Shared>,
    threads: usize,
    workers: Vec<(Thread, Option<JoinHandle<()>>)>,
    /// Set while a region runs: a second caller, or a region inside a region, runs alone.
    busy: AtomicBool,
}

impl Pool {
    /// A pool of `threads` threads, the caller among them; 0 counts as 1.
    ///
    /// No more are started than the process has cores ([`Pool::default_threads`]): others would only take turns
    /// on them and be waited for. Where the system refuses a thread, the pool has the ones it got.
    pub fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        Self::start(threads, threads.min(Self::default_threads()))
    }

    /// As [`Self::new`], with `seats` threads that run at once, more than there are cores in tests.
    pub(crate) fn start(threads: usize, seats: usize) -> Self {
        Self::start_by(threads, seats, |index, work| {
            thread::Builder::new().name(format!("fovea-{index}")).spawn(work)
        })
    }

    /// As [`Self::start`], each worker started by `spawn`, which the system may make fail. After the first that
    /// it refuses, no more are asked for: the pool is then one of fewer threads, with shares and scratch memory
    /// for those.
    fn start_by(
        threads: usize,
        seats: usize,
        spawn: impl Fn(usize, Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>,
    ) -> Self {
        let shared = Arc::new(Shared::new(seats));
        let mut workers = Vec::with_capacity(seats - 1);
        for index in 1..seats {
            let shared = Arc::clone(&shared);
            let Ok(handle) = spawn(index, Box::new(move || shared.work(index))) else { break };
            workers.push((handle.thread().clone(), Some(handle)));
        }
        Self { shared, threads, workers, busy: AtomicBool::new(false) }
    }

    /// The cores this process may use: processors in its affinity mask, and no more than its cgroup's quota.
    pub fn default_threads() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// Threads, the caller among them: as many as were asked for, though fewer may run at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Threads that run at once: no more than the process has cores and the system granted. Scratch memory is
    /// for so many, and work is cut for them.
    pub fn at_once(&self) -> usize {
        1 + self.workers.len()
    }

    /// As [`Pool::run`], on the caller's thread alone where that is not worth handing out.
    pub(crate) fn run_if(&self, worth: bool, parts: usize, body: impl Fn(usize, usize) + Sync) {
        if worth {
            return self.run(parts, body);
        }
        let _flushing = FlushSubnormals::new();
        // Its arithmetic stays within these lines, as `subnormals` demands, if the optimiser does not see what
        // is called.
        let body: &dyn Fn(usize, usize) = std::hint::black_box(&body);
        (0..parts).for_each(|part| body(0, part));
    }

    /// Runs `body(thread, part)` once for every part in `0..parts`; returns when all are done.
    ///
    /// `thread` is below [`Pool::at_once`], and no two calls at the same time have the same one, so it may
    /// index scratch memory (a region started inside a region is the exception: it runs alone, as thread 0). A
    /// panic in a part is passed on after every thread has left the region.
    pub fn run(&self, parts: usize, body: impl Fn(usize, usize) + Sync) {
        let alone = parts <= 1 || self.workers.is_empty() || self.busy.swap(true, Ordering::Acquire);
        if alone {
            return self.run_if(false, parts, body);
        }
        let erased: &(dyn Fn(usize, usize) + Sync) = &body;
        // SAFETY: only the lifetime changes. `run` does not return or unwind before every worker has left the
        // region (the wait below), so no worker uses the reference after `body` is gone.
        let erased: &'static (dyn Fn(usize, usize) + Sync) = unsafe { std::mem::transmute(erased) };
        let region = Region { body: erased, parts, threads: self.at_once() };
        for (seat, (worker, _)) in self.shared.seats[1..].iter().zip(&self.workers) {
            // SAFETY: `busy` makes this the only caller, and the seat is idle.
            unsafe { *seat.region.get() = Some(region) };
            // Sequentially consistent, as is the worker's side: either it sees the offer or we see it parked.
            seat.state.store(OFFERED, Ordering::SeqCst);
            if seat.parked.load(Ordering::SeqCst) {
                worker.unpark();
            }
        }
        let workers = 1..=self.workers.len();
        let own = catch_unwind(AssertUnwindSafe(|| {
            self.shared.run_shares(region, 0);
            workers.clone().for_each(|index| self.shared.help(region, index));
        }));
        workers.for_each(|index| self.shared.wait_for(index));
        let panicked = self.shared.panicked.swap(false, Ordering::Relaxed);
        self.busy.store(false, Ordering::Release);
        if let Err(payload) = own {
            resume_unwind(payload);
        }
        assert!(!panicked, "a part of a parallel region panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for (seat, (worker, handle)) in self.shared.seats[1..].iter().zip(&mut self.workers) {
            seat.state.store(ENDED, Ordering::SeqCst);
            worker.unpark();
            if let Some(handle) = handle.take() {
                // A worker catches what its parts throw, so it cannot have panicked; there is nothing to
                // report.
                let _ = handle.join();
            }
        }
    }
}

impl Shared {
    fn new(seats: usize) -> Self {
        Self {
            seats: (0..seats).map(|_| Seat::default()).collect(),
            caller_sleeps: AtomicBool::new(false),
            caller: Mutex::new(None),
            panicked: AtomicBool::new(false),
        }
    }

    /// A worker's life: wait for a region, run parts of it, again.
    fn work(&self, index: usize) {
        let seat = &self.seats[index];
        while seat.wait_for_offer() != ENDED {
            if !seat.changes(OFFERED, JOINING) {
                continue; // its share was taken
            }
            // SAFETY: the region was stored before it was offered, and is not written before the seat is idle.
            if let Some(region) = unsafe { *seat.region.get() }
                && catch_unwind(AssertUnwindSafe(|| self.run_shares(region, index))).is_err()
            {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.leave(seat);
        }
    }

    /// A worker's end of a region; wakes the caller if it sleeps.
    fn leave(&self, seat: &Seat) {
        // Sequentially consistent, as is the caller's side: either it sees that the worker left or we see it
        // sleep.
        seat.state.store(IDLE, Ordering::SeqCst);
        if self.caller_sleeps.load(Ordering::SeqCst) {
            self.wake_caller();
        }
    }

    /// Wakes the caller. Its name stays: a worker may be descheduled right before this, and the caller by now
    /// sleep in the next region, whose workers need the name.
    fn wake_caller(&self) {
        let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        caller.iter().for_each(Thread::unpark);
    }

    /// Takes parts of a worker's share if it is late.
    fn help(&self, region: Region, index: usize) {
        let late = !spin_until(LATE, || self.has_left(index));
        if late && self.seats[index].state.load(Ordering::Acquire) == JOINED {
            self.run_parts(region, 0, index);
        }
    }

    /// Returns when a worker has left the region, or was never in it: spins first, then sleeps.
    fn wait_for(&self, index: usize) {
        // After a panic, some have not even joined.
        if self.seats[index].changes(OFFERED, IDLE) || spin_until(CALLER_SPIN, || self.has_left(index)) {
            return;
        }
        *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        self.caller_sleeps.store(true, Ordering::SeqCst);
        while !self.has_left(index) {
            thread::park();
        }
        self.caller_sleeps.store(false, Ordering::SeqCst);
    }

    fn has_left(&self, index: usize) -> bool {
        self.seats[index].state.load(Ordering::SeqCst) == IDLE
    }

    /// Runs a thread's share, then those of the workers that have not come yet.
    fn run_shares(&self, region: Region, thread: usize) {
        let own = &self.seats[thread];
        own.share.taken.store(0, Ordering::Relaxed);
        if thread > 0 {
            own.state.store(JOINED, Ordering::Release);
        }
        self.run_parts(region, thread, thread);
        for share in (thread + 1..region.threads).chain(1..thread) {
            let seat = &self.seats[share];
            if seat.state.load(Ordering::Relaxed) == OFFERED && seat.changes(OFFERED, IDLE) {
                seat.share.taken.store(0, Ordering::Relaxed);
                self.run_parts(region, thread, share);
            }
        }
    }

    /// Runs the parts of a share that nobody has taken, as `thread`, which takes part in the region.
    fn run_parts(&self, region: Region, thread: usize, share: usize) {
        let _flushing = FlushSubnormals::new();
        let bound = |share: usize| region.parts * share / region.threads;
        let parts = bound(share + 1) - bound(share);
        loop {
            let part = self.seats[share].share.taken.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                return;
            }
            // SAFETY: `Pool::run` keeps the body alive until every thread has left the region.
            unsafe { (*region.body)(thread, bound(share) + part) };
        }
    }
}

impl Seat {
    /// Changes the state if it is `from`.
    fn changes(&self, from: u8, to: u8) -> bool {
        self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The state once it is no longer idle: spins first, then parks.
    fn wait_for_offer(&self) -> u8 {
        let state = || self.state.load(Ordering::SeqCst);
        if !spin_until(SPIN, || state() != IDLE) {
            self.parked.store(true, Ordering::SeqCst);
            while state() == IDLE {
                thread::park();
            }
            self.parked.store(false, Ordering::SeqCst);
        }
        state()
    }
}

/// A raw pointer that threads may share, because each writes only what belongs to its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shareable<T>(*mut T);

// SAFETY: whoever makes one promises that the parts of the region write disjoint elements.
unsafe impl<T> Send for Shareable<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shareable<T> {}

impl<T> Shareable<T> {
    /// Shares `slice` among the parts of a region, which must touch disjoint elements.
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// As [`Self::new`], for memory that is known by its address.
    pub(crate) fn from_pointer(pointer: *mut T) -> Self {
        Self(pointer)
    }

    /// The first element.
    #[inline(always)]
    pub(crate) fn pointer(&self) -> *mut T {
        self.0
    }

    /// `length` elements from `start`.
    ///
    /// # Safety
    /// The range lies in the slice shared, and no other part touches it during the region.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // the whole point: parts of one slice, one for each thread
    pub(crate) unsafe fn slice(&self, start: usize, length: usize) -> &mut [T] {
        // SAFETY: the caller vouches for the range.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), length) }
    }
}

#[cfg(all(test, fovea_shuttle))]
mod shuttle_tests;

#[cfg(all(test, not(fovea_shuttle)))]
mod tests {
    use super::*;
    use crate::conv2d::{Conv2d, Conv2dShape, Pass};
    use crate::testing::Tensor;
    use crate::{Context, Isa};
    use std::sync::atomic::AtomicU32;

    /// A pool that the system grants some of the workers it asks for.
    fn granted(workers: usize, seats: usize) -> Pool {
        Pool::start_by(seats, seats, |index, work| match index <= workers {
            true => thread::Builder::new().spawn(work),
            false => Err(io::ErrorKind::WouldBlock.into()),
        })
    }

    #[test]
    fn every_part_runs_once_on_a_thread_in_range() {
        for (threads, seats) in [(1, 1), (2, 2), (3, 3), (7, 7), (7, 2)] {
            let pool = Pool::start(threads, seats);
            for parts in [0, 1, 2, 3, 5, 64] {
                let hits: Vec<_> = (0..parts).map(|_| AtomicU32::new(0)).collect();
                pool.run(parts, |thread, part| {
                    assert!(thread < seats);
                    hits[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn where_the_system_refuses_a_worker_every_part_still_runs_once() {
        for seats in 2..6 {
            for workers in 0..seats {
                let pool = granted(workers, seats);
                assert_eq!((pool.threads(), pool.at_once()), (seats, workers + 1));
                for parts in [0, 1, 2, 3, 5, 64, 64, 64] {
                    let hits: Vec<_> = (0..parts).map(|_| AtomicU32::new(0)).collect();
                    pool.run(parts, |thread, part| {
                        assert!(thread < pool.at_once(), "scratch memory is for {} threads", pool.at_once());
                        hits[part].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1), "{workers} of {seats}");
                }
            }
        }
    }

    #[test]
    fn where_the_system_refuses_workers_the_results_are_the_same_to_the_bit() {
        let (input, kernel, padding) = ([24, 24, 9], [3, 3], [1; 4]);
        let shape =
            Conv2dShape { input, filters: 13, kernel, stride: [1, 1], padding, dilation: [1, 1], groups: 1 };
        let isa = Isa::detect().unwrap();
        let convolution = Conv2d::new(shape, isa).unwrap();
        let (x, dy) = (Tensor::uniform(1, [7, 24, 24, 9], 0), Tensor::uniform(2, [7, 24, 24, 13], 0));
        let gradient = |pool: &Pool| {
            let (context, mut gradient) = (Context { isa, pool }, vec![0.0; convolution.weight_len()]);
            // One float more, so that the scratch memory can begin at a multiple of eight bytes.
            let mut memory =
                vec![0.0f32; 1 + convolution.scratch_len(Pass::BackwardWeight, 7, pool.at_once())];
            let start = memory.as_ptr().addr() % 8 / 4;
            let memory = &mut memory[start..];
            convolution.backward_weight(context, x.view(), dy.view(), &mut gradient, None, memory);
            gradient.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let alone = gradient(&Pool::new(1));
        for workers in 0..5 {
            assert_eq!(gradient(&granted(workers, 5)), alone, "{workers} workers");
        }
    }

    #[test]
    fn a_pool_has_the_threads_asked_for_and_starts_none_beyond_the_cores() {
        let pool = Pool::new(1000);
        assert_eq!((pool.threads(), Pool::new(0).threads()), (1000, 1));
        assert!(pool.workers.len() < Pool::default_threads());
    }

    #[test]
    fn no_two_parts_at_a_time_have_the_same_thread() {
        let pool = Pool::start(4, 4);
        let inside: Vec<_> = (0..4).map(|_| AtomicBool::new(false)).collect();
        for round in 0..2000 {
            pool.run(1 + round % 13, |thread, part| {
                assert!(!inside[thread].swap(true, Ordering::SeqCst));
                (0..part * 20).for_each(|_| std::hint::spin_loop());
                inside[thread].store(false, Ordering::SeqCst);
            });
        }
    }

    #[test]
    fn the_parts_of_a_worker_that_never_comes_are_run_by_the_caller() {
        let nobody = || (thread::current(), None);
        let (shared, workers) = (Arc::new(Shared::new(3)), vec![nobody(), nobody()]);
        let pool = Pool { shared, threads: 3, workers, busy: AtomicBool::new(false) };
        for _ in 0..3 {
            let hits: Vec<_> = (0..10).map(|_| AtomicU32::new(0)).collect();
            pool.run(10, |thread, part| {
                assert_eq!(thread, 0);
                hits[part].fetch_add(1, Ordering::Relaxed);
            });
            assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn thousands_of_regions_with_pauses_for_parking_all_complete() {
        let pool = Pool::start(3, 3);
        let total = AtomicUsize::new(0);
        for round in 0..3000 {
            pool.run(6, |_, part| {
                total.fetch_add(part, Ordering::Relaxed);
            });
            if round % 300 == 0 {
                thread::sleep(2 * SPIN);
            }
        }
        assert_eq!(total.into_inner(), 3000 * 15);
    }

    #[test]
    fn a_late_wake_of_the_region_before_does_not_leave_the_caller_asleep() {
        let shared = Arc::new(Shared::new(2));
        shared.seats[1].state.store(JOINED, Ordering::SeqCst);
        let (done, finished) = std::sync::mpsc::channel();
        let caller = Arc::clone(&shared);
        thread::spawn(move || {
            caller.wait_for(1);
            done.send(()).unwrap();
        });
        while !shared.caller_sleeps.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        shared.wake_caller();
        assert!(finished.recv_timeout(Duration::from_millis(20)).is_err(), "a worker still runs");
        shared.leave(&shared.seats[1]);
        assert!(finished.recv_timeout(Duration::from_secs(10)).is_ok(), "the caller sleeps forever");
    }

    #[test]
    fn a_region_inside_a_region_runs_alone_instead_of_waiting_forever() {
        let pool = Pool::start(2, 2);
        let total = AtomicUsize::new(0);
        pool.run(4, |_, _| {
            pool.run(4, |thread, _| {
                assert_eq!(thread, 0);
                total.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(total.into_inner(), 16);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::start(2, 2);
        for broken in 0..2 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(2, |_, part| assert!(part != broken, "part {part} is broken"));
            }));
            assert!(result.is_err());
        }
        let total = AtomicUsize::new(0);
        pool.run(8, |_, _| {
            total.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(total.into_inner(), 8);
    }
}
