//! The system's allocator, watched: for tests of what takes how much memory.
//!
//! A test program that wants to know installs it, and then asks about pieces of work:
//!
//! ```
//! use fovea_allocations::{Watched, largest, requests, total};
//!
//! #[global_allocator]
//! static ALLOCATOR: Watched = Watched;
//!
//! assert_eq!(requests(|| vec![0u8; 100]).1, 1);
//! assert_eq!(largest(|| (vec![0u8; 100], vec![0u8; 7])).1, 100);
//! assert_eq!(total(|| (vec![0u8; 100], vec![0u8; 7])).1, 107);
//! assert_eq!(requests(|| 1 + 1).1, 0);
//! ```

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

/// The system's allocator, which notes what all threads ask it for.
pub struct Watched;

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

// SAFETY: every request goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
