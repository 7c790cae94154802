//! How sizes and counts are told to people.

/// Bytes in decimal units, as stores and file managers show them, with three digits: `12.3 MB`.
pub fn size(bytes: u64) -> String {
    scaled(bytes, &["B", "kB", "MB", "GB", "TB"])
}

/// A number in the first of `units`, each of a thousand of the one before, in which it has at the
/// most three digits before the point.
pub fn scaled(number: u64, units: &[&str]) -> String {
    let mut value = number as f64;
    let mut unit = 0;
    // The limit is where three digits would round up to four.
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}", units.get(unit).unwrap_or(&"")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let sizes = [0, 999, 1000, 9_994, 12_345, 999_499, 999_500, 82_578_944, u64::MAX];
        assert_eq!(
            sizes.map(size),
            [
                "0 B",
                "999 B",
                "1.00 kB",
                "9.99 kB",
                "12.3 kB",
                "999 kB",
                "1.00 MB",
                "82.6 MB",
                "18446744 TB"
            ]
        );
        assert_eq!(scaled(5, &[]), "5");
    }
}
