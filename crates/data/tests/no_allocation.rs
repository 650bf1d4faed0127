//! Once every batch has gone round, prefetching asks for no memory, on either thread.

use std::{sync::Arc, thread, time::Duration};

use fovea_allocations::{Watched, requests};
use fovea_data::{Augment, Dataset, Images, Prefetcher, Sampler, SamplerOptions};

#[global_allocator]
static ALLOCATOR: Watched = Watched;

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
    let mut take = |count: usize| {
        for step in 0..count {
            total += prefetcher.next_batch().unwrap().unwrap().images[2080];
            if step % 10 == 0 {
                thread::sleep(Duration::from_millis(5));
            }
        }
    };
    // Both threads wait for one another during the warm-up: the standard library sets up a thread's first wait.
    take(100);
    assert_eq!(requests(|| take(200)), ((), 0));
    assert!(total > 0.0); // and the batches were real
}
