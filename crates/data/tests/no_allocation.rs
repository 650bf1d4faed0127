//! Once every batch has gone round, prefetching asks for no memory, on either thread.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use fovea_data::{Augment, Dataset, Images, Prefetcher, Sampler, SamplerOptions};

/// The system's allocator, counting what it is asked for.
struct Counting;

static REQUESTS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every request goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        REQUESTS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_warm_prefetcher_allocates_nothing() {
    let (count, side) = (500, 64);
    let images = vec![7; count * side * side];
    let dataset =
        Dataset::from_arrays(Images::U8(images), &[count, side, side], vec![1; count], None).unwrap();
    let options = SamplerOptions { batch_size: 96, shuffle: true, drop_last: false, seed: 1 };
    let sampler = Sampler::new(count, options).unwrap();
    let list = r#"[{"kind":"flip","probability":0.5},{"kind":"crop","padding":4,"fill":"reflect"},{"kind":"cutout","size":8},
        {"kind":"jitter","brightness":0.4,"contrast":0.4,"saturation":0.4},{"kind":"mixup","alpha":0.2}]"#;
    let augmentations = Augment::parse(Some(list)).unwrap();
    let mut prefetcher =
        Prefetcher::new(Arc::new(dataset), sampler, Augment::for_training(augmentations, 5), 0..400).unwrap();
    let mut total = 0.0;
    // Both threads wait for one another during the warm-up: the standard library sets up a thread's first wait.
    for step in 0..100 {
        total += prefetcher.next_batch().unwrap().unwrap().images[2080];
        if step % 10 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }

    let warm = REQUESTS.load(Ordering::Relaxed);
    for step in 0..200 {
        total += prefetcher.next_batch().unwrap().unwrap().images[2080];
        if step % 20 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(REQUESTS.load(Ordering::Relaxed), warm);

    assert!(total > 0.0); // and the batches were real
}
