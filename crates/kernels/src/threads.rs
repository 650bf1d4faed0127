//! A pool of threads for regions that last microseconds.
//!
//! [`Pool::run`] cuts a region into `parts` that the caller chose by shape, and gives each thread one contiguous
//! range of them: a static partition, so that a thread finds in its cache what it wrote in the region before. The
//! caller is thread 0. Workers spin for some tens of microseconds after a region, since the next one of the same
//! step follows at once (a hot region costs well under a microsecond to start and join), then park.
//!
//! Which thread runs a part never changes what the part computes, so results do not depend on the number of threads.
//! While a region runs, its threads treat subnormal numbers as zero: they carry no information that training
//! needs, and arithmetic on them is a hundred times slower.

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a worker spins before it parks: longer than the serial parts between two regions of a step.
const SPIN: Duration = Duration::from_micros(80);

/// Spins between two looks at the clock.
const SPINS_A_LOOK: u32 = 128;

/// How long the caller spins for the workers before it sleeps. On a machine with more runnable threads than cores the
/// missing worker was put aside in the middle of a part; a core that falls idle fetches it at once, whereas one that
/// spins or yields leaves it waiting for a whole slice of the scheduler, some milliseconds.
const CALLER_SPIN: Duration = Duration::from_micros(30);

/// A region: the body, and how many parts it has. The body's lifetime is erased; `Pool::run` outlives every use.
#[derive(Clone, Copy)]
struct Region {
    body: *const (dyn Fn(usize, usize) + Sync),
    parts: usize,
}

/// What the caller and the workers share.
struct Shared {
    threads: usize,
    /// Counts regions; a worker that sees a new number has a region to run.
    generation: AtomicUsize,
    /// Workers that have not finished the region.
    running: AtomicUsize,
    region: UnsafeCell<Option<Region>>,
    /// Whether the caller sleeps, or is about to, until the last worker wakes it.
    caller_sleeps: AtomicBool,
    caller: Mutex<Option<Thread>>,
    panicked: AtomicBool,
    stopping: AtomicBool,
    /// Whether worker i + 1 is parked or about to be.
    parked: Vec<AtomicBool>,
}

// SAFETY: `region` is written by the caller only while no worker runs (`running == 0`), before the release store of
// `generation` that the workers acquire; everything else is atomic.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer in `region` is used only during the call of `run` that stored it.
unsafe impl Send for Shared {}

/// Threads that run the parts of a region together with the caller.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, Option<JoinHandle<()>>)>,
    /// Set while a region runs: a second caller, or a region inside a region, runs alone.
    busy: AtomicBool,
}

impl Pool {
    /// A pool of `threads` threads, the caller among them; 0 counts as 1. Where the system refuses a thread, the
    /// pool has the ones it got.
    pub fn new(threads: usize) -> Self {
        // The number of threads must be known before the first starts: parts are cut by it.
        let mut wanted = threads.max(1);
        loop {
            match Self::start(wanted) {
                Some(pool) => return pool,
                None => wanted = (wanted / 2).max(1),
            }
        }
    }

    fn start(threads: usize) -> Option<Self> {
        let shared = Arc::new(Shared {
            threads,
            generation: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            region: UnsafeCell::new(None),
            caller_sleeps: AtomicBool::new(false),
            caller: Mutex::new(None),
            panicked: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            parked: (1..threads).map(|_| AtomicBool::new(false)).collect(),
        });
        let mut pool =
            Self { shared, workers: Vec::with_capacity(threads - 1), busy: AtomicBool::new(false) };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let name = format!("fovea-{index}");
            let handle = thread::Builder::new().name(name).spawn(move || shared.work(index)).ok()?;
            pool.workers.push((handle.thread().clone(), Some(handle)));
        }
        Some(pool)
    }

    /// The cores this process may use: processors in its affinity mask, and no more than its cgroup's quota.
    pub fn default_threads() -> usize {
        thread::available_parallelism().map_or(1, usize::from)
    }

    /// Threads, the caller among them.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Runs `body(thread, part)` once for every part in `0..parts`; returns when all are done.
    ///
    /// `thread` is below [`Pool::threads`], and no two calls at the same time have the same one, so it may index
    /// scratch memory (a region started inside a region is the exception: it runs alone, as thread 0). A panic in
    /// a part is passed on after every thread has left the region.
    pub fn run(&self, parts: usize, body: impl Fn(usize, usize) + Sync) {
        let alone = parts <= 1 || self.workers.is_empty() || self.busy.swap(true, Ordering::Acquire);
        if alone {
            let _flushing = FlushDenormals::new();
            (0..parts).for_each(|part| body(0, part));
            return;
        }
        let erased: &(dyn Fn(usize, usize) + Sync) = &body;
        // SAFETY: only the lifetime changes. `run` does not return or unwind before every worker has left the
        // region (the wait below), so no worker uses the reference after `body` is gone.
        let erased: &'static (dyn Fn(usize, usize) + Sync) = unsafe { std::mem::transmute(erased) };
        // SAFETY: `busy` makes this the only caller, and `running == 0` says that no worker reads the region.
        unsafe { *self.shared.region.get() = Some(Region { body: erased, parts }) };
        self.shared.running.store(self.workers.len(), Ordering::Relaxed);
        // Sequentially consistent, as is the worker's side: either it sees the new generation or we see it parked.
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        for (index, (worker, _)) in self.workers.iter().enumerate() {
            if self.shared.parked[index].load(Ordering::SeqCst) {
                worker.unpark();
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| self.shared.run_share(0)));
        self.shared.wait_for_workers();
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
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.generation.fetch_add(1, Ordering::SeqCst);
        for (worker, handle) in &mut self.workers {
            worker.unpark();
            if let Some(handle) = handle.take() {
                // A worker catches what its parts throw, so it cannot have panicked; there is nothing to report.
                let _ = handle.join();
            }
        }
    }
}

impl Shared {
    /// A worker's life: wait for a region, run its share, again.
    fn work(&self, index: usize) {
        let mut seen = 0;
        loop {
            self.wait_beyond(seen, index);
            seen += 1;
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| self.run_share(index))).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.leave();
        }
    }

    /// A worker's end of a region; the last wakes the caller if it sleeps.
    fn leave(&self) {
        // Sequentially consistent, as is the caller's side: either it sees no worker left or we see it sleep.
        let last = self.running.fetch_sub(1, Ordering::SeqCst) == 1;
        if last && self.caller_sleeps.load(Ordering::SeqCst) {
            self.wake_caller();
        }
    }

    /// Wakes the caller. Its name stays: a worker may be put aside right before this, and the caller by now sleep in the
    /// next region, whose last worker needs the name.
    fn wake_caller(&self) {
        let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
        caller.iter().for_each(Thread::unpark);
    }

    /// Returns when no worker runs: spins first, then sleeps.
    fn wait_for_workers(&self) {
        let mut spins = 0u32;
        let mut start = None;
        while self.running.load(Ordering::Acquire) != 0 {
            std::hint::spin_loop();
            spins = spins.wrapping_add(1);
            if !spins.is_multiple_of(SPINS_A_LOOK)
                || start.get_or_insert_with(Instant::now).elapsed() < CALLER_SPIN
            {
                continue;
            }
            *self.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
            self.caller_sleeps.store(true, Ordering::SeqCst);
            while self.running.load(Ordering::SeqCst) != 0 {
                thread::park();
            }
            self.caller_sleeps.store(false, Ordering::SeqCst);
        }
    }

    /// Returns when the generation is no longer `seen`: spins first, then parks.
    fn wait_beyond(&self, seen: usize, index: usize) {
        let mut spins = 0u32;
        let mut start = None;
        while self.generation.load(Ordering::Acquire) == seen {
            std::hint::spin_loop();
            spins = spins.wrapping_add(1);
            if !spins.is_multiple_of(SPINS_A_LOOK) || start.get_or_insert_with(Instant::now).elapsed() < SPIN
            {
                continue;
            }
            let parked = &self.parked[index - 1];
            parked.store(true, Ordering::SeqCst);
            while self.generation.load(Ordering::SeqCst) == seen {
                thread::park();
            }
            parked.store(false, Ordering::SeqCst);
        }
    }

    /// Runs the contiguous range of parts that belongs to a thread.
    fn run_share(&self, index: usize) {
        // SAFETY: the region was stored before this generation began and is not written before `running` is 0.
        let Some(region) = (unsafe { *self.region.get() }) else { return };
        let _flushing = FlushDenormals::new();
        let bound = |thread: usize| region.parts * thread / self.threads;
        for part in bound(index)..bound(index + 1) {
            // SAFETY: `Pool::run` keeps the body alive until every thread has left the region.
            unsafe { (*region.body)(index, part) };
        }
    }
}

/// While it lives, this thread reads and writes subnormal numbers as zero, on processors that can.
struct FlushDenormals {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    saved: control::Register,
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl FlushDenormals {
    fn new() -> Self {
        let saved = control::read();
        control::write(saved | control::FLUSH);
        Self { saved }
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Drop for FlushDenormals {
    fn drop(&mut self) {
        control::write(self.saved);
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl FlushDenormals {
    fn new() -> Self {
        Self {}
    }
}

/// The control register of SSE and AVX.
#[cfg(target_arch = "x86_64")]
mod control {
    use std::arch::asm;

    pub type Register = u32;

    /// Flush-to-zero (bit 15) and denormals-are-zero (bit 6).
    pub const FLUSH: Register = 1 << 15 | 1 << 6;

    pub fn read() -> Register {
        let mut control = 0;
        // SAFETY: stores the control register to a local; every x86-64 processor has it.
        unsafe { asm!("stmxcsr [{}]", in(reg) &mut control, options(nostack, preserves_flags)) };
        control
    }

    /// For what [`read`] gave, with [`FLUSH`] or without: it changes only how subnormals are treated.
    pub fn write(control: Register) {
        // SAFETY: who sets FLUSH takes it back, so no other code sees it.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &control, options(nostack, preserves_flags)) };
    }
}

/// The control register of NEON, FPCR.
#[cfg(target_arch = "aarch64")]
mod control {
    use std::arch::asm;

    pub type Register = u64;

    /// Flush-to-zero (bit 24), of operands and results.
    pub const FLUSH: Register = 1 << 24;

    pub fn read() -> Register {
        let control;
        // SAFETY: reads the control register, which every AArch64 processor with NEON has.
        unsafe { asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack, preserves_flags)) };
        control
    }

    /// For what [`read`] gave, with [`FLUSH`] or without: it changes only how subnormals are treated.
    pub fn write(control: Register) {
        // SAFETY: who sets FLUSH takes it back, so no other code sees it. Without `nomem`, no access moves across it.
        unsafe { asm!("msr fpcr, {}", in(reg) control, options(nostack, preserves_flags)) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn every_part_runs_once_on_a_thread_in_range() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads);
            for parts in [0, 1, 2, 3, 5, 64] {
                let hits: Vec<_> = (0..parts).map(|_| AtomicU32::new(0)).collect();
                pool.run(parts, |thread, part| {
                    assert!(thread < threads);
                    hits[part].fetch_add(1, Ordering::Relaxed);
                });
                assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn thousands_of_regions_with_pauses_for_parking_all_complete() {
        let pool = Pool::new(3);
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
        let shared = Arc::clone(&Pool::new(1).shared);
        shared.running.store(1, Ordering::SeqCst);
        let (done, finished) = std::sync::mpsc::channel();
        let caller = Arc::clone(&shared);
        thread::spawn(move || {
            caller.wait_for_workers();
            done.send(()).unwrap();
        });
        while !shared.caller_sleeps.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        shared.wake_caller();
        assert!(finished.recv_timeout(Duration::from_millis(20)).is_err(), "a worker still runs");
        shared.leave();
        assert!(finished.recv_timeout(Duration::from_secs(10)).is_ok(), "the caller sleeps forever");
    }

    #[test]
    fn a_region_inside_a_region_runs_alone_instead_of_waiting_forever() {
        let pool = Pool::new(2);
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
        let pool = Pool::new(2);
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

    #[test]
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn subnormals_are_zero_inside_a_region_and_themselves_outside() {
        let tiny = std::hint::black_box(1e-40f32);
        for parts in [1, 2] {
            Pool::new(2).run(parts, |_, _| assert_eq!(std::hint::black_box(tiny) * 1.0, 0.0));
            assert!(std::hint::black_box(tiny) * 1.0 > 0.0);
        }
    }
}
