//! The mean and deviation of a dataset's channels.

use std::{
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use crate::{DataError, Dataset, Images, dataset::Source, loader::Loader};

/// Images that a thread takes at a time.
const IMAGES: usize = 64;

/// How the values of each channel are spread, bytes being fractions of 255: what a normalisation takes away.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// One number for each channel.
    pub mean: Vec<f64>,
    /// One number for each channel: the root of the mean squared difference from the mean.
    pub deviation: Vec<f64>,
}

/// How often a channel has each byte.
type Histogram = [u64; 256];

impl Dataset {
    /// Reads all images once; those that cannot be read are left out, where that is allowed.
    ///
    /// Errors: files that cannot be read, and none that can.
    pub fn statistics(&self) -> Result<Statistics, DataError> {
        let channels = self.shape()[3];
        if let Source::Memory(Images::F32(values)) = self.source() {
            let channel = |channel: usize| {
                let images = (0..self.len() as u32).map(|index| &values[self.values(index)]);
                moments(images.flat_map(move |image| image[channel..].iter().step_by(channels)).copied())
            };
            let (mean, deviation) = (0..channels).map(channel).unzip();
            return Ok(Statistics { mean, deviation });
        }
        let histograms = self.histograms()?;
        if histograms.iter().flatten().all(|&count| count == 0) {
            return Err(DataError::NoImages);
        }
        let (mean, deviation) = histograms.iter().map(spread).unzip();
        Ok(Statistics { mean, deviation })
    }

    /// Counted by all threads; sums of whole numbers are the same in any order.
    fn histograms(&self) -> Result<Vec<Histogram>, DataError> {
        let (next, count) = (AtomicUsize::new(0), self.len());
        let take = || {
            let begin = next.fetch_add(IMAGES, Ordering::Relaxed).min(count);
            begin..count.min(begin + IMAGES)
        };
        let work = || -> Result<Vec<Histogram>, DataError> {
            let mut loader = Loader::default();
            let mut histograms = vec![[0; 256]; self.shape()[3]];
            loop {
                let range: Range<usize> = take();
                if range.is_empty() {
                    return Ok(histograms);
                }
                for index in range {
                    let Some(bytes) = loader.bytes(self, index as u32)? else { continue };
                    for pixel in bytes.chunks_exact(histograms.len()) {
                        for (histogram, &byte) in histograms.iter_mut().zip(pixel) {
                            histogram[byte as usize] += 1;
                        }
                    }
                }
            }
        };
        let threads = self.loader_threads();
        thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut sums = work()?;
            for other in others {
                let other =
                    other.join().map_err(|_| DataError::Resize { reason: "a panic".to_owned() })??;
                for (sum, count) in sums.iter_mut().flatten().zip(other.iter().flatten()) {
                    *sum += count;
                }
            }
            Ok(sums)
        })
    }
}

/// Mean and deviation of fractions of 255, from whole numbers and so without rounding on the way.
fn spread(histogram: &Histogram) -> (f64, f64) {
    let [count, sum, squares] =
        (0u128..).zip(histogram).fold([0u128; 3], |[count, sum, squares], (byte, &times)| {
            let times = u128::from(times);
            [count + times, sum + times * byte, squares + times * byte * byte]
        });
    let mean = sum as f64 / count as f64;
    let variance = (squares * count - sum * sum) as f64 / (count as f64 * count as f64);
    (mean / 255.0, variance.sqrt() / 255.0)
}

/// Mean and deviation by Welford's recurrence.
fn moments(values: impl Iterator<Item = f32>) -> (f64, f64) {
    let (mut count, mut mean, mut squares) = (0.0f64, 0.0, 0.0);
    for value in values.map(f64::from) {
        count += 1.0;
        let from = value - mean;
        mean += from / count;
        squares += from * (value - mean);
    }
    (mean, (squares / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation_are_those_of_each_channel() {
        let bytes: Vec<u8> = (0..200 * 4 * 3 * 2).map(|value| (value * value % 251) as u8).collect();
        let floats = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
        let labels = vec![0; 200];
        let shape = [200, 4, 3, 2];
        let exact = |channel: usize| {
            let values = || bytes[channel..].iter().step_by(2).map(|&byte| f64::from(byte) / 255.0);
            let count = values().count() as f64;
            let mean = values().sum::<f64>() / count;
            (mean, (values().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt())
        };
        for images in [Images::U8(bytes.clone()), Images::F32(floats)] {
            let dataset = Dataset::from_arrays(images, &shape, labels.clone(), None).unwrap();
            let Statistics { mean, deviation } = dataset.statistics().unwrap();
            for channel in 0..2 {
                let expected = exact(channel);
                assert!((mean[channel] - expected.0).abs() < 1e-7, "{mean:?}");
                assert!((deviation[channel] - expected.1).abs() < 1e-7, "{deviation:?}");
            }
        }
    }

    #[test]
    fn a_subset_has_the_statistics_of_its_own_images() {
        let images = Images::U8(vec![0, 51, 255, 255]);
        let dataset = Dataset::from_arrays(images, &[4, 1, 1], vec![0; 4], None).unwrap();
        let statistics = dataset.subset(&[0, 1]).unwrap().statistics().unwrap();
        assert!((statistics.mean[0] - 0.1).abs() < 1e-12 && (statistics.deviation[0] - 0.1).abs() < 1e-12);
    }
}
