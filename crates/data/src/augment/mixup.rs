//! Two images in one (Zhang et al. 2018, arXiv:1710.09412).

use super::Draws;
use crate::{Batch, Mix};

/// Makes each image of a batch `share` of itself and the rest of its partner: the first image's is the last,
/// the second's the last but one. An image in the middle stays as it is.
pub(super) fn mix(batch: &mut Batch, share: f32, mix: &mut Mix) {
    mix.share = share;
    mix.other.clear();
    mix.other.extend(batch.labels.iter().rev());
    let length = batch.images.len() / batch.labels.len().max(1);
    let half = batch.labels.len() / 2;
    if half == 0 {
        return;
    }
    let (front, back) = batch.images.split_at_mut((batch.labels.len() - half) * length);
    for (one, other) in front.chunks_exact_mut(length).zip(back.chunks_exact_mut(length).rev()) {
        for (one, other) in one.iter_mut().zip(other) {
            let (a, b) = (*one, *other);
            (*one, *other) = (share * a + (1.0 - share) * b, share * b + (1.0 - share) * a);
        }
    }
}

/// A number from 0 to 1 of the distribution Beta(`alpha`, `alpha`).
pub(super) fn share(draws: &mut Draws, alpha: f64) -> f32 {
    let [a, b] = [(); 2].map(|()| gamma(draws, alpha));
    // Both are zero only where alpha is so small that the distribution is 0 or 1.
    if a + b > 0.0 { (a / (a + b)) as f32 } else { draws.uniform().round() }
}

/// A number of the Gamma distribution of shape `alpha` and scale 1 (Marsaglia and Tsang 2000).
///
/// A bounded number of trials, each taken with a probability above 0.95, gives all that anybody will ever see.
fn gamma(draws: &mut Draws, alpha: f64) -> f64 {
    // Below 1: Gamma(alpha) = Gamma(alpha + 1) * U^(1 / alpha).
    let boost = if alpha < 1.0 { (1.0 - f64::from(draws.uniform())).powf(1.0 / alpha) } else { 1.0 };
    let d = if alpha < 1.0 { alpha + 1.0 } else { alpha } - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    for _ in 0..64 {
        let x = f64::from(draws.normals()[0]);
        let u = 1.0 - f64::from(draws.uniform());
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return boost * d * v;
        }
    }
    boost * d
}
