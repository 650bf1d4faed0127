//! The system's allocator, watched: for tests of what takes how much memory, and of what happens where there is
//! none.
//!
//! A test program that wants to know installs it, and then asks about pieces of work:
//!
//! ```
//! use fovea_allocations::{Refusal, Watched, largest, refusing, requests, total};
//!
//! #[global_allocator]
//! static ALLOCATOR: Watched = Watched;
//!
//! assert_eq!(requests(|| vec![0u8; 100]).1, 1);
//! assert_eq!(largest(|| (vec![0u8; 100], vec![0u8; 7])).1, 100);
//! assert_eq!(total(|| (vec![0u8; 100], vec![0u8; 7])).1, 107);
//! assert_eq!(requests(|| 1 + 1).1, 0);
//!
//! let second = Refusal { bytes: 100, granted: 1, lasts: false };
//! let reserve = |bytes| Vec::<u8>::new().try_reserve_exact(bytes).is_ok();
//! assert_eq!(refusing(second, || [100, 99, 100, 100].map(reserve)), ([true, true, false, true], true));
//! ```

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ptr::null_mut,
    sync::atomic::{AtomicUsize, Ordering},
};

/// The system's allocator, which notes what all threads ask it for and refuses what a test wants refused.
pub struct Watched;

/// Which requests of a thread are refused.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// Bytes of the smallest request that counts; smaller ones are granted.
    pub bytes: usize,
    /// Requests that are granted before one is refused.
    pub granted: usize,
    /// Whether those after it are refused as well.
    pub lasts: bool,
}

thread_local! {
    /// The refusals of this thread, and whether there was one.
    static REFUSAL: Cell<(Option<Refusal>, bool)> = const { Cell::new((None, false)) };
}

/// Does some work while this thread is refused memory, and says whether it was. Code that cannot be refused
/// ends the process.
pub fn refusing<T>(refusal: Refusal, work: impl FnOnce() -> T) -> (T, bool) {
    REFUSAL.set((Some(refusal), false));
    let done = work();
    (done, REFUSAL.replace((None, false)).1)
}

/// Whether a request is refused.
fn is_refused(bytes: usize) -> bool {
    // A thread that ends has no refusals anymore.
    let next = REFUSAL.try_with(|cell| match cell.get() {
        (Some(refusal), refused) if bytes >= refusal.bytes => {
            let now = refusal.granted == 0 && (refusal.lasts || !refused);
            let granted = refusal.granted.saturating_sub(1);
            cell.set((Some(Refusal { granted, ..refusal }), refused || now));
            now
        }
        _ => false,
    });
    next.unwrap_or(false)
}

static REQUESTS: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);
static TOTAL: AtomicUsize = AtomicUsize::new(0);

/// Does some work, and counts how often any thread asked for memory meanwhile.
pub fn requests<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = REQUESTS.load(Ordering::Relaxed);
    let done = work();
    (done, REQUESTS.load(Ordering::Relaxed) - before)
}

/// Does some work, and gives the most bytes that any thread asked for at once meanwhile.
pub fn largest<T>(work: impl FnOnce() -> T) -> (T, usize) {
    LARGEST.store(0, Ordering::Relaxed);
    let done = work();
    (done, LARGEST.load(Ordering::Relaxed))
}

/// Does some work, and gives the bytes that all threads asked for meanwhile, given back or not.
pub fn total<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = TOTAL.load(Ordering::Relaxed);
    let done = work();
    (done, TOTAL.load(Ordering::Relaxed) - before)
}

fn note(bytes: usize) {
    TOTAL.fetch_add(bytes, Ordering::Relaxed);
    REQUESTS.fetch_add(1, Ordering::Relaxed);
    LARGEST.fetch_max(bytes, Ordering::Relaxed);
}

// SAFETY: every request goes to the system's allocator unchanged, or is answered by null, which says that it
// failed.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        if is_refused(layout.size()) {
            return null_mut();
        }
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        if is_refused(layout.size()) {
            return null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        if is_refused(size) {
            return null_mut();
        }
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
