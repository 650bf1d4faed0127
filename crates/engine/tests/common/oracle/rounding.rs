//! How far rounding moves a network's results: the oracle run again with every value moved a little, at random.

use super::{Map, Maps};
use fovea_reference::check::uniform;
use std::collections::HashMap;

/// Moves values by up to `unit` of the largest of their tensor, as sums in f32 would.
#[derive(Clone, Copy)]
pub struct Rounding {
    pub unit: f64,
    pub seed: u64,
}

impl Rounding {
    /// Moves the values of a tensor, which `key` tells from others.
    pub fn round(&self, key: u64, values: &mut [f64]) {
        self.round_terms(key, largest(values), values);
    }

    /// As [`Self::round`], for differences of terms as large as `largest`.
    pub fn round_terms(&self, key: u64, largest: f64, values: &mut [f64]) {
        let steps = uniform(self.seed ^ key.wrapping_mul(0x9E37_79B9_7F4A_7C15), values.len());
        values
            .iter_mut()
            .zip(steps)
            .for_each(|(value, step)| *value += self.unit * largest * f64::from(step));
    }

    /// Moves all values of a channel alike, as an error of their mean would.
    pub fn round_means(&self, key: u64, largest: f64, values: &mut [f64], channels: usize) {
        let steps = uniform(self.seed ^ key.wrapping_mul(0xBF58_476D_1CE4_E5B9), channels);
        let steps = steps.iter().cycle().map(|&step| f64::from(step));
        values.iter_mut().zip(steps).for_each(|(value, step)| *value += self.unit * largest * step);
    }
}

/// The largest of the absolute values.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// How near a value of each map may be to a kink for rounding to take it to the other side: `times` what
/// rounding moved the map.
pub fn margins(exact: &Maps, rounded: &[Maps], times: f64) -> HashMap<String, f64> {
    let margin = |(name, map): (&String, &Map)| {
        let pairs = rounded.iter().flat_map(|rounded| map.values.iter().zip(&rounded[name].values));
        let moved = pairs.fold(0.0, |most: f64, (exact, rounded)| most.max((exact - rounded).abs()));
        (name.clone(), times * moved)
    };
    exact.iter().map(margin).collect()
}

/// The values that are within `margin` of a kink on its other side; `None` if there are none.
pub fn mirrored(x: &[f64], kinks: &[f64], margin: f64) -> Option<Vec<f64>> {
    let mut found = false;
    let mirror = |&x: &f64| match kinks.iter().find(|kink| (x - **kink).abs() <= margin) {
        Some(&kink) => {
            found = true;
            // What is exactly at a kink counts below it.
            if x > kink { 2.0 * kink - x } else { 2.0 * kink - x + f64::EPSILON * kink.abs().max(1e-9) }
        }
        None => x,
    };
    let mirrored = x.iter().map(mirror).collect();
    found.then_some(mirrored)
}
