//! What a session tells of images: losses and accuracies with labels, predictions without.

use crate::buffer::vector;
use crate::error::Result;
use crate::execute::{result, result_mut};
use crate::program::Mode;
use crate::session::Session;
use crate::train::Batch;
use fovea_kernels::loss::Targets;

/// Floats of the largest feature map that a batch of [`Session::predict`] should have (32 MB: about what caches
/// hold).
const PREDICT_FLOATS: usize = 1 << 23;

/// Most images that [`Session::predict`] runs at once.
const PREDICT_IMAGES: usize = 256;

/// What an evaluation of a batch tells about the first output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchEvaluation {
    /// Sum of the images' losses, without smoothing and class weights.
    pub loss_sum: f64,
    /// Images whose most probable class was the label.
    pub correct: u32,
    /// Images whose label was among the five most probable classes.
    pub top5: u32,
}

impl Session {
    /// Loss and accuracy of a batch by the first output; `predictions`, `[n]`, receives the most probable class
    /// of each image, the lowest among equals.
    ///
    /// Errors: wrong lengths or labels, an output that is not a row of logits.
    pub fn evaluate_batch(
        &mut self,
        images: &[f32],
        labels: &[u32],
        predictions: &mut [u32],
    ) -> Result<BatchEvaluation> {
        let index = self.evaluation_plan(images, labels, predictions)?;
        let range = self.plan_at(index).program.forward_range();
        self.run(index, range, &Batch::new(images, labels.len(), labels), None);
        Ok(self.judge(index, images, labels, predictions))
    }

    /// As [`Session::evaluate_batch`], by the mean of the scores of each image and of its mirror image, left
    /// and right exchanged: two looks at what may stand either way, which together err less often than one.
    ///
    /// Allocates memory for the mirror images and their scores.
    pub fn evaluate_mirrored_batch(
        &mut self,
        images: &[f32],
        labels: &[u32],
        predictions: &mut [u32],
    ) -> Result<BatchEvaluation> {
        let index = self.evaluation_plan(images, labels, predictions)?;
        let range = self.plan_at(index).program.forward_range();
        let [_, width, channels] = self.network.graph.input;
        let mirrored = mirror_images(images, width, channels)?;
        self.run(index, range.clone(), &Batch::new(&mirrored, labels.len(), labels), None);
        let twins = result(self.plan_at(index), self.arena.as_slice(), &mirrored);
        let mut scores = vector(twins.len(), "the scores of mirror images", twins.iter().copied())?;
        self.run(index, range.clone(), &Batch::new(images, labels.len(), labels), None);
        let own = result(self.plan_at(index), self.arena.as_slice(), images);
        scores.iter_mut().zip(own).for_each(|(score, own)| *score = 0.5 * (*score + own));
        // The loss is the last instruction; it reads the scores where they lie, which is among the images in a
        // network that computes nothing.
        let images = match result_mut(&self.plans[index], self.arena.as_mut_slice()) {
            Some(place) => {
                place.copy_from_slice(&scores);
                images
            }
            None => &scores,
        };
        self.run(index, range.end - 1..range.end, &Batch::new(images, labels.len(), labels), None);
        Ok(self.judge(index, images, labels, predictions))
    }

    /// The plan that evaluates as many images, whose lengths and labels are checked.
    fn evaluation_plan(&mut self, images: &[f32], labels: &[u32], predictions: &[u32]) -> Result<usize> {
        self.check_batch(images, Targets::Labels(labels), 1)?;
        self.check_length("predictions", labels.len(), 1, predictions.len())?;
        self.plan(Mode::Evaluate, labels.len())
    }

    /// The scores and the loss that a plan has left, compared with the labels.
    fn judge(&self, plan: usize, images: &[f32], labels: &[u32], predictions: &mut [u32]) -> BatchEvaluation {
        let logits = result(self.plan_at(plan), self.arena.as_slice(), images);
        let mut evaluation = BatchEvaluation { loss_sum: self.losses[0].sum, correct: 0, top5: 0 };
        let rows = logits.chunks_exact(logits.len() / labels.len());
        for ((row, &label), prediction) in rows.zip(labels).zip(predictions) {
            *prediction = most_probable(row);
            let rank = rank(row, label as usize);
            evaluation.correct += u32::from(rank < 1);
            evaluation.top5 += u32::from(rank < 5);
        }
        evaluation
    }

    /// The first output for any number of images: in batches whose sizes are powers of two, so that a few
    /// plans, each compiled once, serve every number.
    ///
    /// Shapes: images `[count, height, width, channels]`, output `[count, ..]` with [`Session::output_len`]
    /// values an image.
    ///
    /// Errors: wrong lengths.
    pub fn predict(&mut self, images: &[f32], count: usize, output: &mut [f32]) -> Result<()> {
        let (image_len, output_len) = (self.image_len(), self.output_len());
        self.check_length("images", count, image_len, images.len())?;
        self.check_length("output", count, output_len, output.len())?;
        let at_once = self.predict_batch();
        let mut done = 0;
        while done < count {
            let batch = at_once.min(1 << (count - done).ilog2());
            let (images, output) = (&images[done * image_len..], &mut output[done * output_len..]);
            self.infer_batch(&images[..batch * image_len], batch, &mut output[..batch * output_len])?;
            done += batch;
        }
        Ok(())
    }

    /// The first output for as many images, all at once; the lengths are right.
    pub(crate) fn infer_batch(&mut self, images: &[f32], count: usize, output: &mut [f32]) -> Result<()> {
        let index = self.plan(Mode::Infer, count)?;
        let range = self.plan_at(index).program.forward_range();
        self.run(index, range, &Batch::new(images, count, &[]), None);
        output.copy_from_slice(result(self.plan_at(index), self.arena.as_slice(), images));
        Ok(())
    }

    /// Most images that [`Session::predict`] runs at once, a power of two.
    fn predict_batch(&self) -> usize {
        let outputs = self.network.shapes.nodes.iter().map(|node| node.output);
        let largest = outputs.chain([self.network.graph.input]).map(|shape| shape.iter().product()).max();
        let images = PREDICT_FLOATS / largest.unwrap_or(1).max(1);
        1 << images.clamp(1, PREDICT_IMAGES).ilog2()
    }
}

/// Images `[n, height, width, channels]` with the pixels of each row in reverse. Errors: more memory than the
/// system gives.
fn mirror_images(images: &[f32], width: usize, channels: usize) -> Result<Vec<f32>> {
    let rows = images.chunks_exact(width * channels);
    let mirrored = rows.flat_map(|row| row.chunks_exact(channels).rev().flatten().copied());
    vector(images.len(), "mirror images", mirrored)
}

/// The first of the largest values.
fn most_probable(row: &[f32]) -> u32 {
    let larger = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
    (0..row.len()).reduce(larger).unwrap_or(0) as u32
}

/// How many classes come before `label`: those with a larger value, or an equal one earlier in the row. A NaN
/// comes before everything as another class and after everything as the label.
fn rank(row: &[f32], label: usize) -> usize {
    if row[label].is_nan() {
        return usize::MAX;
    }
    let behind = |at: usize, value: f32| value < row[label] || (value == row[label] && at >= label);
    row.iter().enumerate().filter(|&(at, &value)| !behind(at, value)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::testing::lenet5;
    use fovea_reference::check::{relative_error, uniform, widen};

    #[test]
    fn few_plans_predict_any_number_of_images_each_as_if_it_were_alone() {
        let mut session = Session::new(Graph::from_json(&lenet5()).unwrap(), Default::default()).unwrap();
        let image_len = session.image_len();
        let images = uniform(3, 600 * image_len);
        let mut alone = vec![0.0; 600 * 10];
        for (image, output) in images.chunks_exact(image_len).zip(alone.chunks_exact_mut(10)) {
            session.predict(image, 1, output).unwrap();
        }
        for count in (1..70).chain([127, 128, 255, 256, 257, 600]) {
            let mut together = vec![f32::NAN; count * 10];
            session.predict(&images[..count * image_len], count, &mut together).unwrap();
            assert!(relative_error(&together, &widen(&alone[..count * 10])) < 1e-6, "{count}");
        }
        assert_eq!(session.plan_count(), 9); // 1, 2, 4 ... 256
    }

    #[test]
    fn a_mirrored_evaluation_judges_the_mean_of_both_scores() {
        let mut session = Session::new(Graph::from_json(&lenet5()).unwrap(), Default::default()).unwrap();
        let image_len = session.image_len();
        let (images, labels) = (uniform(7, 12 * image_len), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
        let mirrored: Vec<f32> = images.chunks(28).flat_map(|row| row.iter().rev().copied()).collect();
        let [mut scores, mut twins] = [vec![0.0; 120], vec![0.0; 120]];
        session.predict(&images, 12, &mut scores).unwrap();
        session.predict(&mirrored, 12, &mut twins).unwrap();
        let mut loss = 0.0;
        let mut expected = Vec::new();
        for ((row, twin), &label) in scores.chunks(10).zip(twins.chunks(10)).zip(&labels) {
            let mean: Vec<f64> =
                row.iter().zip(twin).map(|(&a, &b)| (f64::from(a) + f64::from(b)) / 2.0).collect();
            loss += mean.iter().map(|score| score.exp()).sum::<f64>().ln() - mean[label as usize];
            expected.push((0..10).max_by(|&a, &b| mean[a].total_cmp(&mean[b])).unwrap() as u32);
        }
        let mut predictions = [0; 12];
        let evaluation = session.evaluate_mirrored_batch(&images, &labels, &mut predictions).unwrap();
        assert!((evaluation.loss_sum / loss - 1.0).abs() < 1e-5, "{} {loss}", evaluation.loss_sum);
        assert_eq!(predictions, expected[..]);
        let right = expected.iter().zip(&labels).filter(|(a, b)| a == b).count();
        assert_eq!(evaluation.correct, right as u32);
        let plain = session.evaluate_batch(&images, &labels, &mut predictions).unwrap();
        assert!((plain.loss_sum / evaluation.loss_sum - 1.0).abs() > 1e-4);
    }

    #[test]
    fn pixels_are_mirrored_whole_and_in_their_row() {
        let images: Vec<f32> = (0..12).map(|value| value as f32).collect();
        assert_eq!(mirror_images(&images, 3, 2).unwrap(), [4., 5., 2., 3., 0., 1., 10., 11., 8., 9., 6., 7.]);
    }

    #[test]
    fn equal_logits_rank_by_position_and_nan_never_counts_as_right() {
        let row = [1.0, 3.0, 3.0, f32::NAN, -2.0];
        assert_eq!(most_probable(&row[..3]), 1);
        assert_eq!([0, 1, 2].map(|label| rank(&row[..3], label)), [2, 0, 1]);
        assert_eq!((rank(&row, 1), rank(&row, 3), rank(&row, 4)), (1, usize::MAX, 4));
    }
}
