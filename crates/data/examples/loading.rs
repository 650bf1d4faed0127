//! How many images a second one thread prepares: `cargo run --release -p fovea-data --example loading
//! [DIRECTORY]`.
//!
//! CIFAR-10's recipe on made images, and with a directory of one folder per class its files at 224 x 224.

use std::{path::Path, time::Instant};

use fovea_data::{Augment, Batch, DataError, Dataset, FolderOptions, Images, Resize, Unreadable};

const BATCH: u32 = 128;

fn main() -> Result<(), DataError> {
    let bytes = (0..10_000 * 32 * 32 * 3).map(|value: usize| ((value * 2_654_435_761) >> 7) as u8).collect();
    let cifar = Dataset::from_arrays(Images::U8(bytes), &[10_000, 32, 32, 3], vec![0; 10_000], None)?;
    let normalize = r#"{"kind":"normalize","mean":[0.4914,0.4822,0.4465],"deviation":[0.247,0.2435,0.2616]}"#;
    let crop = r#"{"kind":"crop","padding":4},{"kind":"flip","probability":0.5},{"kind":"cutout","size":8}"#;
    let jitter = r#"{"kind":"jitter","brightness":0.4,"contrast":0.4,"saturation":0.4}"#;
    let part = r#"{"kind":"resizedCrop","scale":[0.08,1],"ratio":[0.75,1.3333]}"#;
    measure("32 x 32: as they are", &cifar, "[]", 100_000)?;
    measure("32 x 32: crop, flip, cutout, normalize", &cifar, &format!("[{crop},{normalize}]"), 100_000)?;
    measure("32 x 32: the same and jitter", &cifar, &format!("[{crop},{jitter},{normalize}]"), 50_000)?;
    measure("32 x 32: the same and resizedCrop", &cifar, &format!("[{part},{crop},{normalize}]"), 50_000)?;
    if let Some(directory) = std::env::args().nth(1) {
        let (resize, unreadable) = (Resize::Crop, Unreadable::Fail);
        let options =
            FolderOptions { height: 224, width: 224, channels: 3, resize, unreadable, classes: None };
        let files = Dataset::from_folder(Path::new(&directory), options)?;
        let flip = r#"{"kind":"flip","probability":0.5}"#;
        measure("files at 224 x 224: middle", &files, "[]", 500)?;
        measure(
            "files at 224 x 224: resizedCrop, flip, normalize",
            &files,
            &format!("[{part},{flip},{normalize}]"),
            500,
        )?;
    }
    Ok(())
}

#[allow(clippy::print_stdout)] // what this program is for
fn measure(name: &str, dataset: &Dataset, augment: &str, images: u32) -> Result<(), DataError> {
    let augment = Augment::for_training(Augment::parse(Some(augment))?, 1);
    let mut batch = Batch::default();
    let began = Instant::now();
    for step in 0..images.div_ceil(BATCH) {
        let indices: Vec<u32> =
            (0..BATCH).map(|place| (step * BATCH + place) % dataset.len() as u32).collect();
        dataset.gather(&indices, &augment, u64::from(step), &mut batch)?;
    }
    let rate = f64::from(images.div_ceil(BATCH) * BATCH) / began.elapsed().as_secs_f64();
    println!("{name}: {rate:.0} images/s");
    Ok(())
}
