//! Axes: where values are, and which are named.

use anemll_terminal::number;

/// How values lie along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// From zero, or from below it, evenly.
    Linear,
    /// From the smallest to the largest value, by their logarithms.
    Logarithmic,
}

/// An axis.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    title: String,
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// An axis on which all these values have a place, but for those that are no numbers or, on a
    /// logarithmic one, not above zero.
    pub(crate) fn new(title: &str, scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let drawn = values.filter(|value| is_drawn(*value, scale));
        let (low, high) = drawn.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (value.min(low), value.max(high))
        });
        let (low, high) = match scale {
            _ if low > high => (0.1, 1.0),
            // Room for the marks.
            Scale::Logarithmic => (low / 1.25, high * 1.25),
            Scale::Linear if low == high && high == 0.0 => (0.0, 1.0),
            Scale::Linear => (low.min(0.0), high * 1.05),
        };
        Self { title: title.to_owned(), scale, low, high }
    }

    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// The place of a value, from 0 to 1.
    pub(crate) fn share(&self, value: f64) -> Option<f64> {
        if !is_drawn(value, self.scale) {
            return None;
        }
        let place = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.ln(),
        };
        let (low, high) = (place(self.low), place(self.high));
        let share = (place(value) - low) / (high - low);
        (-1e-9..=1.0 + 1e-9).contains(&share).then_some(share)
    }

    /// At most `most` values with a name, and the names.
    pub(crate) fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        let values = match self.scale {
            Scale::Linear => self.even(most),
            Scale::Logarithmic => self.round(most),
        };
        values.into_iter().map(|value| (value, number(value))).collect()
    }

    /// Multiples of a round step.
    fn even(&self, most: usize) -> Vec<f64> {
        let rough = (self.high - self.low) / most as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).map(|times| times as f64 * step).collect()
    }

    /// Powers of ten, with round values between where there is room.
    fn round(&self, most: usize) -> Vec<f64> {
        let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        let between: [&[f64]; 4] = [
            &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0],
            &[1.0, 2.0, 3.0, 5.0],
            &[1.0, 3.0],
            &[1.0],
        ];
        let inside = |times: &[f64], every: i32| -> Vec<f64> {
            let decades = decades.clone().filter(|power| power.rem_euclid(every) == 0);
            let all =
                decades.flat_map(|power| times.iter().map(move |one| one * 10_f64.powi(power)));
            all.filter(|value| (self.low..=self.high).contains(value)).collect()
        };
        let fits = |values: &Vec<f64>| values.len() <= most;
        between.iter().map(|times| inside(times, 1)).find(fits).unwrap_or_else(|| {
            (2..20).map(|every| inside(&[1.0], every)).find(fits).unwrap_or_default()
        })
    }
}

fn is_drawn(value: f64, scale: Scale) -> bool {
    value.is_finite() && (scale == Scale::Linear || value > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        let names = |scale, low, high, most| -> Vec<String> {
            let axis = Axis::new("", scale, [low, high].into_iter());
            axis.ticks(most).into_iter().map(|(_, name)| name).collect()
        };
        assert_eq!(names(Scale::Linear, 0.0, 511.0, 6), ["0", "100", "200", "300", "400", "500"]);
        assert_eq!(names(Scale::Logarithmic, 0.011, 1.2, 5), ["0.01", "0.03", "0.1", "0.3", "1"]);
        assert_eq!(names(Scale::Logarithmic, 60.0, 110.0, 6).len(), 6);
        for (low, high) in [(0.5, 0.5), (1e-7, 1e6), (3.0, 4.0), (f64::NAN, f64::NAN)] {
            for scale in [Scale::Linear, Scale::Logarithmic] {
                assert!(names(scale, low, high, 5).len() <= 7, "{scale:?} {low} {high}");
            }
        }
    }

    #[test]
    fn every_value_has_a_place() {
        let values = [3.0, 0.02, 70.0];
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let axis = Axis::new("", scale, values.into_iter());
            assert!(values.iter().all(|value| axis.share(*value).is_some()));
            assert_eq!(axis.share(f64::NAN), None);
            assert_eq!(axis.share(0.0).is_some(), scale == Scale::Linear);
        }
        // One value alone, and none at all.
        let alone = Axis::new("", Scale::Logarithmic, [5.0].into_iter());
        assert!((alone.share(5.0).unwrap() - 0.5).abs() < 1e-9);
        assert!(Axis::new("", Scale::Linear, [0.0].into_iter()).share(0.0).is_some());
    }
}
