use super::*;
use anemll_calibration::SweepRow;

/// Forms as they may be measured, one of them without a number.
fn sweep() -> Sweep {
    let row = |bits, group: &str, bytes, kl_mean| SweepRow {
        lut: format!("{bits},{group}"),
        bits,
        group: group.to_owned(),
        flags: format!("--lut none --lut2 {bits},{group}"),
        bytes,
        part_bytes: bytes / 2,
        part_elements: 106_000_000,
        kl_mean,
        kl_p99: 4.0 * kl_mean,
        top1_agreement: 0.8,
        perplexity: 15.0,
        front: false,
        notes: if group == "7" { vec!["<groups of 1>".to_owned()] } else { Vec::new() },
    };
    let mut sweep = Sweep {
        schema: Sweep::SCHEMA,
        model: "/models/<b>".to_owned(),
        part: "layers".to_owned(),
        quantizer: "lut-aware".to_owned(),
        text: "built-in".to_owned(),
        tokens: 3000,
        original_perplexity: 13.7,
        original_bytes: 269_000_000,
        rows: vec![
            row(3, "8", 96_000_000, 0.6),
            row(3, "tensor", 95_000_000, 1.1),
            row(4, "8", 110_000_000, 0.15),
            row(4, "7", 111_000_000, f64::NAN),
        ],
    };
    sweep.mark_front();
    sweep
}

#[test]
fn the_page_marks_the_front_and_escapes_names() {
    let page = page(&sweep()).unwrap();
    assert_eq!(page.matches("class=\"front-row\"").count(), 3);
    assert_eq!(page.matches("<circle class=\"ring\"").count(), 3);
    assert_eq!(page.matches("<g class=\"mark").count(), 3);
    assert!(page.contains("&lt;groups of 1&gt;") && !page.contains("<groups"));
    assert!(page.contains("script-src 'none'") && !page.contains("<script"));
    assert!(page.contains("unknown") && page.contains("role=\"img\""));
    assert!(!page.contains("NaN") && !page.contains("url(") && !page.contains("http:"));
}

#[test]
fn lines_are_as_long_as_the_terminal_allows() {
    let sweep = sweep();
    for (width, columns) in [(60, "same"), (80, "perplexity"), (120, "convert with")] {
        let lines = Lines::new(Some(width));
        assert!(lines.head().trim_end().ends_with(columns), "{width}");
        for row in &sweep.rows {
            assert!(lines.row(row).chars().count() <= width + 1, "{}", lines.row(row));
        }
    }
    let front = front(&sweep);
    assert!(front.contains("best for their size: 3,tensor  3,8  4,8\n"), "{front}");
    assert!(front.contains("note: 4,7: <groups of 1>"), "{front}");
}
