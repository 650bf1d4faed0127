//! What a session tells of images: losses and accuracies with labels, predictions without.

use crate::error::Result;
use crate::execute::result;
use crate::program::Mode;
use crate::session::Session;
use crate::train::Batch;
use fovea_kernels::loss::Targets;

/// Floats of the largest feature map that a batch of [`Session::predict`] should have (32 MB: about what caches hold).
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
    /// Loss and accuracy of a batch by the first output; `predictions`, `[n]`, receives the most probable class of each
    /// image, the lowest among equals.
    ///
    /// Errors: wrong lengths or labels, an output that is not a row of logits.
    pub fn evaluate_batch(
        &mut self,
        images: &[f32],
        labels: &[u32],
        predictions: &mut [u32],
    ) -> Result<BatchEvaluation> {
        self.check_batch(images, Targets::Labels(labels), 1)?;
        self.check_length("predictions", labels.len(), 1, predictions.len())?;
        let index = self.plan(Mode::Evaluate, labels.len())?;
        let range = self.plan_at(index).program.forward_range();
        self.run(index, range, &Batch::new(images, labels), None);
        let logits = result(self.plan_at(index), self.arena.as_slice(), images);
        let mut evaluation = BatchEvaluation { loss_sum: self.losses[0].sum, correct: 0, top5: 0 };
        let rows = logits.chunks_exact(logits.len() / labels.len());
        for ((row, &label), prediction) in rows.zip(labels).zip(predictions) {
            *prediction = most_probable(row);
            let rank = rank(row, label as usize);
            evaluation.correct += u32::from(rank < 1);
            evaluation.top5 += u32::from(rank < 5);
        }
        Ok(evaluation)
    }

    /// The first output for any number of images: in batches whose sizes are powers of two, so that a few plans, each
    /// compiled once, serve every number.
    ///
    /// Shapes: images `[count, height, width, channels]`, output `[count, ..]` with [`Session::output_len`] values an
    /// image.
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
        self.run(index, range, &Batch::new(images, &[]), None);
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

/// The first of the largest values.
fn most_probable(row: &[f32]) -> u32 {
    let larger = |best: usize, at: usize| if row[at] > row[best] { at } else { best };
    (0..row.len()).reduce(larger).unwrap_or(0) as u32
}

/// How many classes come before `label`: those with a larger value, or an equal one earlier in the row. A NaN comes
/// before everything as another class and after everything as the label.
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
    fn equal_logits_rank_by_position_and_nan_never_counts_as_right() {
        let row = [1.0, 3.0, 3.0, f32::NAN, -2.0];
        assert_eq!(most_probable(&row[..3]), 1);
        assert_eq!([0, 1, 2].map(|label| rank(&row[..3], label)), [2, 0, 1]);
        assert_eq!((rank(&row, 1), rank(&row, 3), rank(&row, 4)), (1, usize::MAX, 4));
    }
}
