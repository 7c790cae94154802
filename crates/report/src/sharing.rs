//! How `combine`, `split` and `dedup` tell which weights are shared.

use anemll_mlpackage::WeightsPlacement;
use anemll_multifunction::{Done, Report, Sharing, TensorReport, Totals};
use indicatif::DecimalBytes;
use serde::Serialize;
use std::fmt::Write as _;

/// A package that was written, as JSON shows it.
#[derive(Debug, Serialize)]
pub struct Written<'a> {
    /// Its path.
    path: String,
    /// Size of its model file.
    model_bytes: u64,
    /// How the weights came there.
    weights_by: &'static str,
    #[serde(flatten)]
    report: &'a Report,
}

impl<'a> Written<'a> {
    /// What was written, and where its weights came from.
    pub fn new(done: &'a Done) -> Self {
        let path = done.written.path.display().to_string();
        let weights_by = match done.written.weights {
            WeightsPlacement::HardLinked => "hard link",
            WeightsPlacement::None => "none",
            WeightsPlacement::Copied { .. } | WeightsPlacement::Moved => "copy",
        };
        Self { path, model_bytes: done.written.model_bytes, weights_by, report: &done.report }
    }

    /// The package and its sharing; `every` lists all weights.
    pub fn to_text(&self, every: bool) -> String {
        let linked = match self.weights_by {
            "hard link" => "  the weight file is a hard link of an input's\n",
            _ => "",
        };
        format!("{}\n{}{linked}", self.path, report_text(self.report, every))
    }
}

/// What a report says, in lines.
pub fn report_text(report: &Report, every: bool) -> String {
    let mut text = String::new();
    if let Some(default) = &report.default_function {
        let names: Vec<String> = report
            .functions
            .iter()
            .map(|name| if name == default { format!("{name} (default)") } else { name.clone() })
            .collect();
        let _ = writeln!(text, "  functions: {}", names.join(", "));
    }
    let inputs: Vec<String> = report
        .inputs
        .iter()
        .map(|input| format!("{} {}", input.functions.join("+"), DecimalBytes(input.weight_bytes)))
        .collect();
    let _ = writeln!(
        text,
        "  weights: {} in one file ({}), {} shared",
        DecimalBytes(report.weight_bytes),
        inputs.join(", "),
        DecimalBytes(report.totals.bytes_saved)
    );
    for (number, function) in report.functions.iter().enumerate() {
        let own: Vec<&TensorReport> =
            report.tensors.iter().filter(|tensor| tensor.function == *function).collect();
        let totals = Totals::of(own.iter().copied());
        let _ = writeln!(
            text,
            "  {function}: {} weights, {} exact, {} semantic, {} approximate, {} not shared; {} saved",
            own.len(),
            totals.exact,
            totals.semantic,
            totals.approximate,
            totals.none,
            DecimalBytes(totals.bytes_saved)
        );
        for tensor in own {
            // The first function has no one to share with: its weights are no news.
            let news = match tensor.sharing {
                Sharing::None => number > 0,
                Sharing::Exact => false,
                Sharing::Semantic | Sharing::Approximate => true,
            };
            if every || news {
                let _ = writeln!(text, "    {}", tensor_line(tensor));
            }
        }
    }
    for note in &report.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}

fn tensor_line(tensor: &TensorReport) -> String {
    let sharing = match tensor.sharing {
        Sharing::None => "not shared",
        Sharing::Exact => "exact",
        Sharing::Semantic => "semantic",
        Sharing::Approximate => "approximate",
    };
    let mut line = format!(
        "{sharing:<11} {:>10} saved of {:>10}  {}",
        DecimalBytes(tensor.bytes_saved).to_string(),
        DecimalBytes(tensor.bytes).to_string(),
        tensor.name
    );
    if let Some(partner) = &tensor.with {
        let relation = if tensor.sharing == Sharing::None { "too far from" } else { "as" };
        let _ = write!(line, " {relation} {partner}");
    }
    if let Some(difference) = &tensor.difference {
        let _ = write!(
            line,
            " (cosine {:.7}, largest error {:.3e}, mean error {:.3e})",
            difference.cosine, difference.largest_error, difference.mean_error
        );
    }
    line
}
