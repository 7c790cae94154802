//! The comparison for a terminal.

use super::view::{nats, percent};
use anemll_calibration::Comparison;
use anemll_generation::perplexity::Score;
use anemll_generation::streams::summary;
use anemll_terminal::{Column, Table, size, wrapped_lines};
use std::fmt::Write as _;

/// Fewer tokens than these say nothing of the worst percent.
const FEW: u64 = 100;

/// Lines for people, the worst ten tensors at the end.
pub fn text(found: &Comparison, width: Option<usize>) -> String {
    let apart = &found.distributions;
    let share = |share: f64| format!("{:.1} %", 100.0 * share);
    let perplexity =
        format!("{:.3} (original {:.3})", found.conversion.perplexity, found.original.perplexity);
    let tokens = format!(
        "{} scored, in {} windows of up to {}: {}",
        found.scored, found.windows, found.window_tokens, found.text
    );
    let kl = format!("mean {}, 99 % below {} nats", nats(apart.kl_mean), nats(apart.kl_p99));
    let lines = [
        ("tokens", tokens),
        ("KL", kl),
        ("same word", share(apart.top1_agreement)),
        ("among five", share(apart.top5_agreement)),
        ("perplexity", perplexity),
        ("lost", format!("{} nats a word ({} words)", nats(found.nats_per_word), found.words)),
    ];
    let mut text = String::new();
    for (title, value) in lines {
        let _ = writeln!(text, "{title:<12} {value}");
    }
    if let Some(line) = summary(&found.layers) {
        let _ = writeln!(text, "{line}");
        let layers: Vec<String> =
            found.layers.iter().map(|layer| percent(layer.relative_l2)).collect();
        let _ = writeln!(text, "off by layer {}", layers.join(" "));
    }
    for (whose, Score { not_finite, .. }) in
        [("the conversion", found.conversion), ("the original", found.original)]
    {
        if not_finite > 0 {
            let _ = writeln!(
                text,
                "not finite   {}: figures that include {} are unknown",
                match not_finite {
                    1 => format!("1 token of {whose} has infinite or undefined logits"),
                    count => format!("{count} tokens of {whose} have infinite or undefined logits"),
                },
                if not_finite == 1 { "it" } else { "them" }
            );
        }
    }
    if found.scored < FEW {
        let scored = match found.scored {
            1 => "1 token was".to_owned(),
            count => format!("{count} tokens were"),
        };
        let _ =
            writeln!(text, "note: only {scored} scored: use a longer text for reliable numbers");
    }
    for note in &found.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let mut text = wrapped_lines(&text, width);
    let worst = found.worst();
    if worst.is_empty() {
        return text;
    }
    let _ = writeln!(text, "\nthe worst {} of {} matrices:", worst.len(), found.tensors.len());
    let columns = [
        Column::Flexible,
        Column::Right,
        Column::Right,
        Column::Right,
        Column::Right,
        Column::Left,
    ];
    let mut table = Table::new(&columns)
        .with_head(&["tensor", "output error", "SQNR dB", "bits", "size", "form"])
        .leaving_out(&[5, 4, 3]);
    for one in worst {
        table.row([
            format!("{} ({})", one.tensor, one.role),
            one.output_error.map_or_else(|| "unknown".to_owned(), percent),
            one.sqnr_db.map_or_else(|| "exact".to_owned(), |sqnr| format!("{sqnr:.1}")),
            format!("{:.2}", one.bits()),
            size(one.bytes),
            one.form.clone(),
        ]);
    }
    text + &table.render(width)
}
