//! What is to be said of a model that is far from the original.

use anemll_calibration::Quality;

/// From here on a model is so far from the original that answers suffer.
const FAR: f64 = 0.3;

/// What is to be said of a model that is far from the original.
pub(crate) fn warning(quality: &Quality) -> Option<String> {
    // NaN is far, too.
    let near = quality.kl <= FAR;
    (!near).then(|| {
        format!(
            "the model is far from the original (KL {:.2}, above {FAR}): its answers will suffer; give \
             it more bits, such as --lut 6, or leave the bits to the default",
            quality.kl
        )
    })
}
