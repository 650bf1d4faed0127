//! Nothing is allocated in a step once its plan exists: a counting allocator watches all threads.
//!
//! Without the usual harness, whose own threads allocate when they like.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

mod common;

use common::graphs::{lenet5, mixed, random_graph, varied};
use common::{batch, session};
use fovea_allocations::{Watched, requests};
use fovea_engine::{Mode, Session, StepOptions};
use fovea_kernels::Isa;

#[global_allocator]
static ALLOCATOR: Watched = Watched;

fn main() {
    assert_eq!(requests(|| std::hint::black_box(vec![0u8; 100])).1, 1);
    for isa in Isa::available() {
        for definition in [lenet5(), mixed(), varied(), random_graph(1), random_graph(2)] {
            let mut session = session(&definition, 2, isa);
            let (images, labels) = batch(&session, 16, 4, 0);
            let (mut predictions, mut output) = (vec![0; 16], vec![0.0; 16 * session.output_len()]);
            let mut step = |session: &mut Session| {
                session.train_step(&images, &labels, &StepOptions::default()).unwrap();
                session.evaluate_batch(&images, &labels, &mut predictions).unwrap();
                session.predict(&images, 16, &mut output).unwrap();
            };
            step(&mut session);
            // A worker that had no part in so small a step may still be starting, which allocates its name;
            // measuring the peak waits for all.
            session.explain(Mode::Infer, 1, true).unwrap();
            let ((), requests) = requests(|| (0..3).for_each(|_| step(&mut session)));
            assert_eq!(requests, 0, "{}", isa.name());
        }
    }
}
