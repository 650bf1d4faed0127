use std::collections::HashSet;

use super::*;
use crate::{Dataset, Images};

/// A list with everything in it, for images of three channels.
const ALL: &str = r#"[{"kind":"resizedCrop","scale":[0.25,1],"ratio":[0.75,1.3333]},{"kind":"crop","padding":2},
    {"kind":"flip","probability":0.5},{"kind":"jitter","brightness":0.4,"contrast":0.4,"saturation":0.4},
    {"kind":"cutout","size":3},{"kind":"mixup","alpha":0.4},
    {"kind":"normalize","mean":[0.5,0.4,0.3],"deviation":[0.2,0.3,0.4]}]"#;

fn training(json: &str, seed: u64) -> Augment {
    Augment::for_training(Augment::parse(Some(json)).unwrap(), seed)
}

/// `count` images of distinct values, `[side, side, channels]`.
fn dataset(count: usize, side: usize, channels: usize) -> Dataset {
    let values = (0..count * side * side * channels).map(|value| 1.0 + value as f32).collect();
    let labels = (0..count as u32).map(|index| index % 7).collect();
    Dataset::from_arrays(Images::F32(values), &[count, side, side, channels], labels, Some(7)).unwrap()
}

/// One image after a single operation, for many steps.
fn varied(json: &str, side: usize, channels: usize, steps: u64) -> Vec<Vec<f32>> {
    let (dataset, augment) = (dataset(1, side, channels), training(json, 9));
    let image = |step| {
        let mut batch = Batch::default();
        dataset.gather(&[0], &augment, step, &mut batch).unwrap();
        batch.images
    };
    (0..steps).map(image).collect()
}

/// Whether so many of `count` independent trials of that probability are within five standard deviations.
fn is_likely(times: usize, count: usize, probability: f64) -> bool {
    let (mean, deviation) =
        (count as f64 * probability, (count as f64 * probability * (1.0 - probability)).sqrt());
    (times as f64 - mean).abs() <= 5.0 * deviation
}

#[test]
fn a_flip_mirrors_rows_as_often_as_asked_for() {
    for channels in [1, 2, 3] {
        let row = |y: usize, x: usize| (0..channels).map(move |c| (1 + (y * 4 + x) * channels + c) as f32);
        let plain: Vec<f32> = (0..4).flat_map(|y| (0..4).flat_map(move |x| row(y, x))).collect();
        let mirrored: Vec<f32> = (0..4).flat_map(|y| (0..4).rev().flat_map(move |x| row(y, x))).collect();
        let images = varied(r#"[{"kind":"flip","probability":0.25}]"#, 4, channels, 2000);
        assert!(images.iter().all(|image| *image == plain || *image == mirrored));
        let times = images.iter().filter(|image| **image == mirrored).count();
        assert!(is_likely(times, 2000, 0.25), "{times}");
    }
}

#[test]
fn a_crop_moves_the_image_everywhere_equally_often_and_borders_are_zeros_or_mirrors() {
    let (side, padding) = (5isize, 2isize);
    for channels in [1, 3] {
        for (fill, json) in [
            (Fill::Zeros, r#"[{"kind":"crop","padding":2}]"#),
            (Fill::Reflect, r#"[{"kind":"crop","padding":2,"fill":"reflect"}]"#),
        ] {
            let mut expected = Vec::new();
            for dy in -padding..=padding {
                for dx in -padding..=padding {
                    let mirror = |at: isize| {
                        if at < 0 {
                            -at
                        } else if at >= side {
                            2 * (side - 1) - at
                        } else {
                            at
                        }
                    };
                    let pixel = |y: isize, x: isize| {
                        let outside = !(0..side).contains(&y) || !(0..side).contains(&x);
                        let at = (mirror(y) * side + mirror(x)) * channels;
                        (0..channels).map(move |channel| {
                            if outside && fill == Fill::Zeros { 0.0 } else { (1 + at + channel) as f32 }
                        })
                    };
                    let image: Vec<f32> =
                        (0..side).flat_map(|y| (0..side).flat_map(move |x| pixel(y + dy, x + dx))).collect();
                    expected.push(image);
                }
            }
            let images = varied(json, side as usize, channels as usize, 5000);
            for expected in &expected {
                let times = images.iter().filter(|image| *image == expected).count();
                assert!(is_likely(times, 5000, 1.0 / 25.0), "{times} {fill:?}");
            }
            assert!(images.iter().all(|image| expected.contains(image)));
        }
    }
}

#[test]
fn a_border_as_wide_as_the_image_can_leave_nothing_of_it() {
    let images = varied(r#"[{"kind":"crop","padding":2}]"#, 2, 1, 500);
    assert!(images.contains(&vec![0.0; 4]) && images.contains(&vec![1.0, 2.0, 3.0, 4.0]));
}

#[test]
fn cutout_clears_a_square_whose_middle_is_anywhere() {
    for (size, before) in [(3usize, 1usize), (4, 2), (1, 0)] {
        let json = format!(r#"[{{"kind":"cutout","size":{size}}}]"#);
        let images = varied(&json, 6, 2, 3000);
        let mut seen = HashSet::new();
        for image in images {
            let cleared: Vec<usize> = (0..36).filter(|&pixel| image[2 * pixel] == 0.0).collect();
            assert!((0..36).all(|pixel| (image[2 * pixel] == 0.0) == (image[2 * pixel + 1] == 0.0)));
            seen.insert(cleared);
        }
        let square = |centre: usize| {
            let span = |at: usize| at.saturating_sub(before)..(at + size - before).min(6);
            let rows = span(centre / 6);
            rows.flat_map(|y| span(centre % 6).map(move |x| y * 6 + x)).collect::<Vec<usize>>()
        };
        assert_eq!(seen, (0..36).map(square).collect());
    }
}

#[test]
fn jitter_changes_light_and_colours_within_its_limits() {
    let dataset =
        Dataset::from_arrays(Images::F32(vec![0.2, 0.4, 0.6, 0.3, 0.3, 0.3]), &[1, 1, 2, 3], vec![0], None);
    let dataset = dataset.unwrap();
    let images = |json: &str| {
        let augment = training(json, 3);
        let image = |step| {
            let mut batch = Batch::default();
            dataset.gather(&[0], &augment, step, &mut batch).unwrap();
            batch.images
        };
        (0..400).map(image).collect::<Vec<_>>()
    };
    let near = |a: f32, b: f32| (a - b).abs() < 1e-6;
    let mut factors = Vec::new();
    for image in images(r#"[{"kind":"jitter","brightness":0.5,"contrast":0,"saturation":0}]"#) {
        factors.push(image[0] / 0.2);
        assert!(near(image[1], 0.4 * image[0] / 0.2) && near(image[5], 0.3 * image[0] / 0.2));
    }
    assert!(factors.iter().all(|factor| (0.5..=1.5).contains(factor)));
    assert!(factors.iter().any(|&factor| factor < 0.55) && factors.iter().any(|&factor| factor > 1.45));
    let grey = 0.2989 * 0.2 + 0.587 * 0.4 + 0.114 * 0.6;
    for image in images(r#"[{"kind":"jitter","brightness":0,"contrast":0,"saturation":0.5}]"#) {
        let factor = (image[0] - grey) / (0.2 - grey);
        assert!((0.4999..=1.5001).contains(&factor) && near(image[2] - grey, factor * (0.6 - grey)));
        assert!((image[3] - 0.3).abs() < 1e-4, "a grey pixel stays grey");
    }
    let mean = (grey + 0.3 * 0.9999) / 2.0;
    for image in images(r#"[{"kind":"jitter","brightness":0,"contrast":0.5,"saturation":0}]"#) {
        let factor = (image[1] - mean) / (0.4 - mean);
        assert!((0.4999..=1.5001).contains(&factor) && near(image[4] - mean, factor * (0.3 - mean)));
    }
    for image in images(r#"[{"kind":"jitter","brightness":9,"contrast":9,"saturation":9}]"#) {
        assert!(image.iter().all(|value| (0.0..=1.0).contains(value)));
    }
}

#[test]
fn normalisation_is_done_in_training_and_in_evaluation_and_nothing_else_is_in_evaluation() {
    let dataset =
        Dataset::from_arrays(Images::U8(vec![0, 51, 255, 102]), &[1, 1, 2, 2], vec![0], None).unwrap();
    let json = r#"[{"kind":"crop","padding":1},{"kind":"normalize","mean":[0.5,0.1],"deviation":[0.25,2]}]"#;
    let mut batch = Batch::default();
    let augment = Augment::for_evaluation(Augment::parse(Some(json)).unwrap());
    for step in 0..20 {
        dataset.gather(&[0], &augment, step, &mut batch).unwrap();
        assert_eq!(batch.images, [-2.0, 0.05, 2.0, 0.15]);
    }
    let alone = training(r#"[{"kind":"normalize","mean":[0.5,0.1],"deviation":[0.25,2]}]"#, 1);
    dataset.gather(&[0], &alone, 0, &mut batch).unwrap();
    assert_eq!(batch.images, [-2.0, 0.05, 2.0, 0.15]);
}

#[test]
fn parts_have_the_area_and_proportion_asked_for_and_are_anywhere() {
    let mut areas = [0usize; 4];
    for step in 0..4000 {
        let augment = training(r#"[{"kind":"resizedCrop","scale":[0.2,0.6],"ratio":[0.5,2]}]"#, 4);
        let Some(resize::Part::Rectangle([left, top, width, height])) = augment.part(step, 3, [300, 400])
        else {
            panic!("no part")
        };
        assert!(left + width <= 400 && top + height <= 300);
        let (area, ratio) = ((width * height) as f64 / 120_000.0, width as f64 / height as f64);
        assert!((0.195..0.605).contains(&area) && (0.49..2.03).contains(&ratio), "{area} {ratio}");
        areas[((area - 0.2) * 10.0).clamp(0.0, 3.0) as usize] += 1;
    }
    // Tall ones do not fit as often; the rest is even.
    assert!(areas.iter().all(|&times| (700..1300).contains(&times)), "{areas:?}");
    let narrow = training(r#"[{"kind":"resizedCrop","scale":[1,1],"ratio":[1,1]}]"#, 4);
    assert_eq!(narrow.part(0, 0, [10, 30]), Some(resize::Part::Rectangle([10, 0, 10, 10])));
}

#[test]
fn resized_parts_of_bytes_and_floats_are_the_same_images() {
    let bytes: Vec<u8> = (0..8 * 8 * 3).map(|value| (value * 29 % 256) as u8).collect();
    let floats: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
    let augment = training(r#"[{"kind":"resizedCrop","scale":[0.1,0.9],"ratio":[0.5,2]}]"#, 5);
    let mut images = [Batch::default(), Batch::default()];
    for step in 0..50 {
        for (source, batch) in
            [Images::U8(bytes.clone()), Images::F32(floats.clone())].into_iter().zip(&mut images)
        {
            let dataset = Dataset::from_arrays(source, &[1, 8, 8, 3], vec![0], None).unwrap();
            dataset.gather(&[0], &augment, step, batch).unwrap();
        }
        for (a, b) in images[0].images.iter().zip(&images[1].images) {
            assert!((a - b).abs() < 1.6 / 255.0, "{a} {b}");
        }
    }
}

#[test]
fn mixup_mixes_partners_by_a_share_of_the_beta_distribution() {
    let (dataset, indices) = (dataset(5, 2, 1), [4, 3, 2, 1, 0]);
    let mut plain = Batch::default();
    dataset.gather(&indices, &Augment::default(), 0, &mut plain).unwrap();
    assert_eq!(plain.mix, None);
    for alpha in [0.2, 1.0, 4.0] {
        let augment = training(&format!(r#"[{{"kind":"mixup","alpha":{alpha}}}]"#), 1);
        let (count, mut sum, mut squares) = (4000, 0.0, 0.0);
        let mut batch = Batch::default();
        for step in 0..count {
            dataset.gather(&indices, &augment, step, &mut batch).unwrap();
            let mix = batch.mix.as_ref().unwrap();
            assert_eq!(mix.other, plain.labels.iter().rev().copied().collect::<Vec<_>>());
            assert_eq!(batch.labels, plain.labels);
            for place in 0..5 {
                let (own, other) = (plain.images[4 * place], plain.images[4 * (4 - place)]);
                let expected = mix.share * own + (1.0 - mix.share) * other;
                assert!((batch.images[4 * place] - expected).abs() < 1e-5 * expected.abs());
            }
            sum += f64::from(mix.share);
            squares += f64::from(mix.share).powi(2);
        }
        let mean = sum / count as f64;
        let variance = squares / count as f64 - mean * mean;
        let expected = 1.0 / (4.0 * (2.0 * alpha + 1.0));
        assert!((mean - 0.5).abs() < 0.03, "{mean}");
        assert!((variance / expected - 1.0).abs() < 0.1, "{variance} {expected}");
    }
    let mut one = Batch::default();
    dataset.gather(&[2], &training(r#"[{"kind":"mixup","alpha":1}]"#, 1), 0, &mut one).unwrap();
    assert_eq!(one.images, [9.0, 10.0, 11.0, 12.0]);
}

#[test]
fn what_is_drawn_depends_on_seed_step_and_place_alone() {
    let values = (0..20 * 8 * 8 * 3).map(|value| (value * 31 % 256) as u8).collect();
    let dataset = Dataset::from_arrays(Images::U8(values), &[20, 8, 8, 3], vec![1; 20], None).unwrap();
    let gather = |indices: &[u32], seed, step| {
        let mut batch = Batch::default();
        dataset.gather(indices, &training(ALL, seed), step, &mut batch).unwrap();
        batch
    };
    let first = gather(&[1, 1, 2], 7, 3);
    assert_eq!(gather(&[1, 1, 2], 7, 3), first);
    assert_ne!(first.images[..192], first.images[192..384], "one image at two places");
    assert_ne!(gather(&[1, 1, 2], 8, 3), first);
    assert_ne!(gather(&[1, 1, 2], 7, 4).images, first.images);
}

#[test]
fn lists_that_make_no_sense_are_refused_by_name() {
    let refused = |json: &str, shape| {
        let parsed = Augment::parse(Some(json)).and_then(|list| Augment::for_training(list, 0).check(shape));
        parsed.unwrap_err().to_string()
    };
    let image = [8, 6, 3];
    for (json, expected) in [
        (
            r#"[{"kind":"flip","probability":1.5}]"#,
            "Expected a number from 0 to 1 for \"augment[0].probability\" but received 1.5.",
        ),
        (
            r#"[{"kind":"crop","padding":7}]"#,
            "Expected at most 6 pixels for \"augment[0].padding\" but received 7.",
        ),
        (
            r#"[{"kind":"crop","padding":6,"fill":"reflect"}]"#,
            "Expected at most 5 pixels for \"augment[0].padding\" but received 6.",
        ),
        (
            r#"[{"kind":"cutout","size":0}]"#,
            "Expected at least 1 pixel for \"augment[0].size\" but received 0.",
        ),
        (
            r#"[{"kind":"normalize","mean":[0,0,0],"deviation":[1,0,1]}]"#,
            "Expected 3 numbers above 0, one for each channel, for \"augment[0].deviation\" but received [1.0, 0.0, 1.0].",
        ),
        (
            r#"[{"kind":"flip","probability":1},{"kind":"resizedCrop","scale":[0.1,1],"ratio":[1,1]}]"#,
            "Expected resizedCrop to come first for \"augment[1].kind\" but received it later.",
        ),
        (
            r#"[{"kind":"mixup","alpha":1},{"kind":"mixup","alpha":1}]"#,
            "Expected nothing but normalize after mixup for \"augment[1].kind\" but received more.",
        ),
        (
            r#"[{"kind":"mixup","alpha":0}]"#,
            "Expected a number above 0 for \"augment[0].alpha\" but received 0.0.",
        ),
    ] {
        assert_eq!(refused(json, image), expected);
    }
    assert!(
        refused(r#"[{"kind":"jitter","brightness":0,"contrast":0,"saturation":0}]"#, [8, 6, 2])
            .contains("1 or 3")
    );
    assert!(refused(r#"[{"kind":"resizedCrop","scale":[0.1,1.1],"ratio":[1,1]}]"#, image).contains("scale"));
    assert!(refused(r#"[{"kind":"resizedCrop","scale":[0.1,1],"ratio":[2,1]}]"#, image).contains("ratio"));
    assert!(
        refused(r#"[{"kind":"normalize","mean":[0],"deviation":[1,1,1]}]"#, image)
            .contains("augment[0].mean")
    );
    for json in [
        "",
        "{}",
        "[1]",
        r#"[{"kind":"blur"}]"#,
        r#"[{"kind":"cutout"}]"#,
        r#"[{"kind":"cutout","size":-1}]"#,
        r#"[{"kind":"cutout","size":1,"colour":2}]"#,
        r#"[{"kind":"flip","probability":null}]"#,
    ] {
        let message = refused(json, image);
        assert!(
            message.starts_with("Expected a list of augmentations for \"augment\" but received "),
            "{message}"
        );
        assert!(!message.contains(" at line"), "{message}");
    }
}
