//! Folders of image files: classes from folders, one by one from the disk, and files that cannot be read.

#![allow(clippy::unwrap_used)] // a failure is a failed test, in helpers too

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use fovea_data::{
    Augment, Batch, Dataset, FolderOptions, Prefetcher, Resize, Sampler, SamplerOptions, Unreadable,
};

const OPTIONS: FolderOptions = FolderOptions {
    height: 4,
    width: 4,
    channels: 3,
    resize: Resize::Crop,
    unreadable: Unreadable::Skip,
    classes: None,
};

/// Writes a PNG of a single colour.
fn write_png(path: &Path, colour: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut encoder = png::Encoder::new(fs::File::create(path).unwrap(), 4, 4);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header().unwrap().write_image_data(&[colour; 48]).unwrap();
}

/// Twelve images, `colour / 10` being their place among the sorted files; three classes of 3, 4 and 5.
fn folder() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut colour = 0;
    for (class, count) in [("birds", 3), ("cats", 4), ("dogs", 5)] {
        for image in 0..count {
            let name = if image == 2 { "more/2.png".to_owned() } else { format!("{image}.PNG") };
            write_png(&directory.path().join(class).join(name), 10 * colour);
            colour += 1;
        }
    }
    directory
}

/// The colours of a batch's images, in tens.
fn colours(batch: &Batch) -> Vec<u32> {
    batch.images.chunks_exact(48).map(|image| (image[0] * 25.5).round() as u32).collect()
}

fn all(dataset: &Dataset, augment: &Augment) -> Batch {
    let indices: Vec<u32> = (0..dataset.len() as u32).collect();
    let mut batch = Batch::default();
    dataset.gather(&indices, augment, 0, &mut batch).unwrap();
    batch
}

fn training() -> Augment {
    Augment::for_training(Vec::new(), 0)
}

/// Makes two files unreadable, and gives the places of both.
fn damage(directory: &Path) -> [(u32, PathBuf); 2] {
    let damaged = [(4, directory.join("cats/1.PNG")), (11, directory.join("dogs/more/2.png"))];
    for (_, path) in &damaged {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }
    damaged
}

#[test]
fn classes_are_the_sorted_folders_and_other_files_are_passed_over() {
    let directory = folder();
    fs::write(directory.path().join("readme.txt"), "no image").unwrap();
    fs::write(directory.path().join("cats/notes.txt"), "no image").unwrap();
    fs::write(directory.path().join("cats/.hidden.png"), "no image").unwrap();
    fs::create_dir(directory.path().join(".cache")).unwrap();
    let dataset = Dataset::from_folder(directory.path(), OPTIONS).unwrap();
    assert_eq!((dataset.shape(), dataset.classes()), ([12, 4, 4, 3], 3));
    assert_eq!([0, 1, 2].map(|label| dataset.class_name(label)), ["birds", "cats", "dogs"]);
    let batch = all(&dataset, &training());
    assert_eq!(batch.labels, [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
    // In each folder names are sorted, "more" after the digits.
    assert_eq!(colours(&batch), [0, 1, 2, 3, 4, 6, 5, 7, 8, 10, 11, 9]);
    assert!(dataset.skipped().is_empty() && dataset.images().is_none());
    let [train, validation] = dataset.split(0.34, 1).unwrap();
    assert_eq!((train.class_counts(), validation.class_counts()), (vec![2, 3, 3], vec![1, 1, 2]));
}

#[test]
fn a_test_folder_has_the_labels_of_the_training_folder() {
    let directory = folder();
    fs::remove_dir_all(directory.path().join("birds")).unwrap();
    let classes = ["birds", "cats", "dogs"].map(str::to_owned).to_vec();
    let options = FolderOptions { classes: Some(classes.clone()), ..OPTIONS };
    let dataset = Dataset::from_folder(directory.path(), options).unwrap();
    assert_eq!((dataset.labels(), dataset.classes()), (&[1, 1, 1, 1, 2, 2, 2, 2, 2][..], 3));
    let options = FolderOptions { classes: Some(classes[..2].to_vec()), ..OPTIONS };
    let message = Dataset::from_folder(directory.path(), options).unwrap_err().to_string();
    assert!(message.starts_with("Expected one of the known classes") && message.ends_with("found \"dogs\"."));
}

#[test]
fn directories_without_images_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = || Dataset::from_folder(directory.path(), OPTIONS).unwrap_err().to_string();
    assert!(refused().starts_with("Expected a folder for each class in"), "{}", refused());
    fs::create_dir(directory.path().join("cats")).unwrap();
    assert!(refused().starts_with("Expected JPEG, PNG or WebP files in the folders of"), "{}", refused());
    let message = Dataset::from_folder(&directory.path().join("none"), OPTIONS).unwrap_err().to_string();
    assert!(message.starts_with("Could not list") && message.contains("none"), "{message}");
}

#[test]
fn training_takes_the_next_image_for_one_that_cannot_be_read_and_names_it() {
    let directory = folder();
    let damaged = damage(directory.path());
    let dataset = Dataset::from_folder(directory.path(), OPTIONS).unwrap();
    for _ in 0..2 {
        let batch = all(&dataset, &training());
        assert_eq!(colours(&batch), [0, 1, 2, 3, 6, 6, 5, 7, 8, 10, 11, 0]);
        assert_eq!(batch.labels, [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 0], "labels go with the images");
        let skipped = dataset.skipped();
        assert_eq!(skipped.len(), 2);
        for (skipped, (_, path)) in skipped.iter().zip(&damaged) {
            assert_eq!(&skipped.file, path);
            assert!(
                skipped.reason.starts_with("expected a whole PNG image but received"),
                "{}",
                skipped.reason
            );
        }
    }
}

#[test]
fn evaluation_and_statistics_leave_out_what_cannot_be_read() {
    let directory = folder();
    damage(directory.path());
    let dataset = Dataset::from_folder(directory.path(), OPTIONS).unwrap();
    let batch = all(&dataset, &Augment::for_evaluation(Vec::new()));
    assert_eq!(colours(&batch), [0, 1, 2, 3, 6, 5, 7, 8, 10, 11]);
    assert_eq!(batch.labels, [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]);
    let mean = f64::from([0, 1, 2, 3, 6, 5, 7, 8, 10, 11].iter().sum::<u32>()) / 255.0;
    assert!(dataset.statistics().unwrap().mean.iter().all(|channel| (channel - mean).abs() < 1e-12));
}

#[test]
fn a_file_that_cannot_be_read_is_fatal_unless_it_may_be_skipped() {
    let directory = folder();
    damage(directory.path());
    let options = FolderOptions { unreadable: Unreadable::Fail, ..OPTIONS };
    let dataset = Arc::new(Dataset::from_folder(directory.path(), options).unwrap());
    let sampler = SamplerOptions { batch_size: 12, shuffle: false, drop_last: false, seed: 0 };
    for _ in 0..20 {
        let sampler = Sampler::new(12, sampler).unwrap();
        let mut batches = Prefetcher::new(dataset.clone(), sampler, training(), 0..20).unwrap();
        // The first of the two, whichever thread is quicker, in each of more batches than are made ahead.
        for _ in 0..20 {
            let message = batches.next_batch().unwrap_err().to_string();
            assert!(
                message.starts_with("Expected a whole PNG image for") && message.contains("1.PNG"),
                "{message}"
            );
        }
        assert!(batches.next_batch().unwrap().is_none());
    }
    assert!(dataset.statistics().is_err());
}

#[test]
fn nothing_but_unreadable_files_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("cats")).unwrap();
    for name in ["a.png", "b.jpg", "c.webp"] {
        fs::write(directory.path().join("cats").join(name), "no image").unwrap();
    }
    let dataset = Dataset::from_folder(directory.path(), OPTIONS).unwrap();
    let message = dataset.gather(&[1], &training(), 0, &mut Batch::default()).unwrap_err().to_string();
    assert!(message.starts_with("Expected an image that can be read in"), "{message}");
    assert_eq!(dataset.skipped().len(), 3);
    assert!(dataset.statistics().is_err());
}

#[test]
fn batches_of_files_are_the_same_from_any_prefetcher_and_after_a_resume() {
    let directory = folder();
    damage(directory.path());
    let list = r#"[{"kind":"resizedCrop","scale":[0.3,1],"ratio":[0.7,1.4]},{"kind":"crop","padding":1},
        {"kind":"mixup","alpha":1}]"#;
    let augment = Augment::for_training(Augment::parse(Some(list)).unwrap(), 3);
    let options = SamplerOptions { batch_size: 5, shuffle: true, drop_last: false, seed: 3 };
    let sampler = Sampler::new(12, options).unwrap();
    let batches = |steps: std::ops::Range<u64>| {
        let dataset = Dataset::from_folder(directory.path(), OPTIONS).unwrap();
        let mut prefetcher = Prefetcher::new(Arc::new(dataset), sampler, augment.clone(), steps).unwrap();
        let mut batches = Vec::new();
        while let Some(batch) = prefetcher.next_batch().unwrap() {
            batches.push(batch.clone());
        }
        batches
    };
    let whole = batches(0..9);
    assert_eq!(whole.iter().map(Batch::len).collect::<Vec<_>>(), [5, 5, 2, 5, 5, 2, 5, 5, 2]);
    for first in [0, 1, 4, 8] {
        assert_eq!(batches(first..9), whole[first as usize..]);
    }
}
