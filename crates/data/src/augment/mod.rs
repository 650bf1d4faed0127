//! Images varied at random while they are prepared, so that a network sees more than there are.
//!
//! An [`Augment`] is a list of operations that are applied in its order to images of numbers, bytes being
//! fractions of 255 by then. The numbers that an operation draws are a function of the seed, the step, the
//! image's place in its batch and the operation's place in the list: of no thread, and of no point where
//! training was resumed.
//!
//! Evaluation keeps the normalisation and nothing else.

mod color;
mod geometry;
mod mixup;

use fovea_kernels::random::{Philox, Purpose};
use serde::Deserialize;

use crate::{Batch, DataError, resize};

/// One way to vary an image, as JSON names it: `{"kind": "crop", "padding": 4}`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", deny_unknown_fields)]
pub enum Augmentation {
    /// Left and right change places.
    Flip {
        /// How often, from 0 to 1.
        probability: f32,
    },
    /// The image is given a border and cut to its size again anywhere.
    Crop {
        /// Pixels on each side.
        padding: usize,
        /// What the border is of; zeros by default.
        #[serde(default)]
        fill: Fill,
    },
    /// A part of the image is resized to the network's size; the first operation of a list, for it takes its
    /// part from a file before the file is resized. Its meaning is that of torchvision's `RandomResizedCrop`.
    ResizedCrop {
        /// Least and largest share of the area, in (0, 1].
        scale: [f64; 2],
        /// Least and largest proportion of width to height.
        ratio: [f64; 2],
    },
    /// A square of zeros, whose middle is anywhere in the image (DeVries and Taylor 2017).
    Cutout {
        /// Pixels of a side.
        size: usize,
    },
    /// Other light and colours, within 0 to 1: torchvision's `ColorJitter` without hue.
    Jitter {
        /// The image is multiplied by 1 - `brightness` to 1 + `brightness`.
        brightness: f32,
        /// Differences from the mean luminance are multiplied by 1 - `contrast` to 1 + `contrast`.
        contrast: f32,
        /// Differences from a pixel's luminance are multiplied by 1 - `saturation` to 1 + `saturation`.
        saturation: f32,
    },
    /// The mean is subtracted, and what is left divided by the deviation; in evaluation, too.
    Normalize {
        /// One number for each channel.
        mean: Vec<f32>,
        /// One number for each channel, above 0.
        deviation: Vec<f32>,
    },
    /// Each image is a share of itself and the rest of the image that stands as far from the batch's other end;
    /// so are its targets (Zhang et al. 2018). After all others but the normalisation.
    Mixup {
        /// The share is drawn from the distribution Beta(`alpha`, `alpha`), once for a batch.
        alpha: f64,
    },
}

/// What a border is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fill {
    /// Zeros: black, or the mean after normalisation.
    #[default]
    Zeros,
    /// The image mirrored at its outermost pixels.
    Reflect,
}

/// What is done to the images of batches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Augment {
    operations: Vec<Augmentation>,
    seed: u64,
    training: bool,
}

impl Augment {
    /// Reads a list of operations from JSON; nothing stands for an empty list.
    ///
    /// Errors: what is no such list.
    pub fn parse(json: Option<&str>) -> Result<Vec<Augmentation>, DataError> {
        json.map_or(Ok(Vec::new()), serde_json::from_str).map_err(|error| {
            let text = error.to_string();
            let received =
                text.rsplit_once(" at line").map_or(text.as_str(), |(reason, _)| reason).to_owned();
            refusal("augment", "a list of augmentations", received)
        })
    }

    /// All operations, with numbers drawn under a seed; images that cannot be read are replaced by the next
    /// that can.
    pub fn for_training(operations: Vec<Augmentation>, seed: u64) -> Augment {
        Augment { operations, seed, training: true }
    }

    /// The normalisation alone; images that cannot be read are left out.
    pub fn for_evaluation(mut operations: Vec<Augmentation>) -> Augment {
        operations.retain(|operation| matches!(operation, Augmentation::Normalize { .. }));
        Augment { operations, seed: 0, training: false }
    }

    /// Whether unreadable images are replaced.
    pub(crate) fn replaces(&self) -> bool {
        self.training
    }

    /// Checks every number for images of a height, width and number of channels.
    ///
    /// Errors: the operation and the number that makes no sense.
    pub fn check(&self, shape: [usize; 3]) -> Result<(), DataError> {
        let mixup = self.operations.iter().position(|one| matches!(one, Augmentation::Mixup { .. }));
        for (place, operation) in self.operations.iter().enumerate() {
            let name = |key: &str| format!("augment[{place}].{key}");
            operation.check(shape, name)?;
            if place > 0 && matches!(operation, Augmentation::ResizedCrop { .. }) {
                return Err(refusal(name("kind"), "resizedCrop to come first", "it later"));
            }
            let normalizes = matches!(operation, Augmentation::Normalize { .. });
            if mixup.is_some_and(|mixup| place > mixup) && !normalizes {
                return Err(refusal(name("kind"), "nothing but normalize after mixup", "more"));
            }
        }
        Ok(())
    }

    /// The rectangle of an image that is to be resized, where a part of it is drawn.
    pub(crate) fn part(&self, step: u64, image: u32, sides: [usize; 2]) -> Option<resize::Part> {
        let Some(Augmentation::ResizedCrop { scale, ratio }) = self.operations.first() else { return None };
        let mut draws = self.draws(step, image, 0);
        Some(resize::Part::Rectangle(geometry::part(&mut draws, sides, *scale, *ratio)))
    }

    /// Does everything to an image that is done to single images of their final size.
    ///
    /// - `image`: its place in the batch.
    /// - `values`: `[height, width, channels]`.
    /// - `scratch`: memory for another such image.
    pub(crate) fn apply(
        &self,
        step: u64,
        image: u32,
        values: &mut [f32],
        shape: [usize; 3],
        scratch: &mut Vec<f32>,
    ) {
        for (place, operation) in self.operations.iter().enumerate() {
            let mut draws = self.draws(step, image, place);
            match operation {
                Augmentation::Flip { probability } => {
                    if draws.uniform() < *probability {
                        geometry::flip(values, shape);
                    }
                }
                Augmentation::Crop { padding, fill } => {
                    let offset = [(); 2].map(|()| draws.below(2 * padding + 1) as isize - *padding as isize);
                    geometry::shift(values, shape, offset, *fill, scratch);
                }
                Augmentation::Cutout { size } => {
                    let centre = [shape[0], shape[1]].map(|side| draws.below(side));
                    geometry::cut_out(values, shape, centre, *size);
                }
                Augmentation::Jitter { brightness, contrast, saturation } => {
                    color::jitter(&mut draws, values, shape[2], [*brightness, *contrast, *saturation]);
                }
                Augmentation::Normalize { mean, deviation } => color::normalize(values, mean, deviation),
                Augmentation::ResizedCrop { .. } | Augmentation::Mixup { .. } => {}
            }
        }
    }

    /// Does to a whole batch what concerns several images.
    pub(crate) fn finish(&self, step: u64, batch: &mut Batch) {
        let mut mix = batch.mix.take();
        for (place, operation) in self.operations.iter().enumerate() {
            if let Augmentation::Mixup { alpha } = operation {
                let share = mixup::share(&mut self.draws(step, 0, place), *alpha);
                let mut mixed = mix.take().unwrap_or_default();
                mixup::mix(batch, share, &mut mixed);
                batch.mix = Some(mixed);
            }
        }
    }

    fn draws(&self, step: u64, image: u32, place: usize) -> Draws {
        let philox = Philox::new(self.seed, Purpose::Augmentation, step);
        Draws { philox, counter: (u64::from(image) << 32) | ((place as u64) << 16) }
    }
}

impl Augmentation {
    fn check(
        &self,
        [height, width, channels]: [usize; 3],
        name: impl Fn(&str) -> String,
    ) -> Result<(), DataError> {
        let check = |key: &str, ok: bool, expected: &str, received: &dyn std::fmt::Debug| {
            if ok { Ok(()) } else { Err(refusal(name(key), expected, format!("{received:?}"))) }
        };
        let side = height.min(width);
        match self {
            Augmentation::Flip { probability } => {
                check("probability", (0.0..=1.0).contains(probability), "a number from 0 to 1", probability)
            }
            Augmentation::Crop { padding, fill } => {
                let most = if *fill == Fill::Reflect { side - 1 } else { side };
                check("padding", *padding <= most, &format!("at most {most} pixels"), padding)
            }
            Augmentation::ResizedCrop { scale, ratio } => {
                let ordered = |[least, most]: [f64; 2]| 0.0 < least && least <= most && most.is_finite();
                check("scale", ordered(*scale) && scale[1] <= 1.0, "two rising shares in (0, 1]", scale)?;
                check("ratio", ordered(*ratio), "two rising numbers above 0", ratio)?;
                check("kind", resize::CHANNELS.contains(&channels), "images of 1 to 4 channels", &channels)
            }
            Augmentation::Cutout { size } => check("size", *size > 0, "at least 1 pixel", size),
            Augmentation::Jitter { brightness, contrast, saturation } => {
                for (key, value) in
                    [("brightness", brightness), ("contrast", contrast), ("saturation", saturation)]
                {
                    check(key, (0.0..=f32::MAX).contains(value), "a number of at least 0", value)?;
                }
                check("kind", matches!(channels, 1 | 3), "images of 1 or 3 channels", &channels)
            }
            Augmentation::Normalize { mean, deviation } => {
                let expected = |kind: &str| format!("{channels} {kind}, one for each channel,");
                let finite = mean.iter().all(|value| value.is_finite());
                check("mean", finite && mean.len() == channels, &expected("finite numbers"), mean)?;
                let positive = deviation.iter().all(|value| value.is_normal() && *value > 0.0);
                let fits = positive && deviation.len() == channels;
                check("deviation", fits, &expected("numbers above 0"), deviation)
            }
            Augmentation::Mixup { alpha } => {
                check("alpha", *alpha > 0.0 && alpha.is_finite(), "a number above 0", alpha)
            }
        }
    }
}

fn refusal(name: impl Into<String>, expected: &str, received: impl Into<String>) -> DataError {
    DataError::Augmentation { name: name.into(), expected: expected.to_owned(), received: received.into() }
}

/// The random numbers of one image and one operation, one after another.
struct Draws {
    philox: Philox,
    counter: u64,
}

impl Draws {
    /// Uniform on [0, 1).
    fn uniform(&mut self) -> f32 {
        self.uniforms()[0]
    }

    /// Four numbers, each uniform on [0, 1).
    fn uniforms(&mut self) -> [f32; 4] {
        self.counter += 1;
        self.philox.uniforms(self.counter)
    }

    /// Four numbers, normally distributed with mean 0 and deviation 1.
    fn normals(&mut self) -> [f32; 4] {
        self.counter += 1;
        self.philox.normals(self.counter)
    }

    /// Uniform on 0 .. n; 0 when n is 0.
    fn below(&mut self, n: usize) -> usize {
        self.counter += 1;
        self.philox.below(2 * self.counter, n as u32) as usize
    }
}

#[cfg(test)]
mod tests;
