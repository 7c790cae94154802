use super::*;
use anemll_calibration::TensorError;
use anemll_generation::distance::{Span, Summary};
use anemll_generation::perplexity::Score;
use anemll_generation::streams::LayerError;

/// A comparison as it may come out, with what is no number and what is not known.
fn comparison() -> Comparison {
    let tensor = |layer: u32, kind: &str, output_error| TensorError {
        tensor: format!("model.layers.{layer}.<{kind}>.weight"),
        role: format!("mlp.{kind}"),
        layer: Some(layer),
        shape: [1536, 576],
        form: "4-bit palettized".to_owned(),
        bytes: 452_000,
        sqnr_db: Some(21.25),
        output_error,
    };
    let span = |first, mean| Span { first, end: first + 16, tokens: 32, mean, p90: 2.0 * mean };
    let layer = |layer, relative_l2| LayerError {
        layer,
        relative_l2,
        token_max: 2.0 * relative_l2,
        token: 7,
        norm_ratio: 1.01,
    };
    let score =
        |nll_mean: f64, not_finite| Score { nll_mean, perplexity: nll_mean.exp(), not_finite };
    Comparison {
        schema: Comparison::SCHEMA,
        meta: "/out/<i>/meta.yaml".to_owned(),
        model: "/models/m".to_owned(),
        text: "built-in".to_owned(),
        tokens: 64,
        words: 48,
        windows: 2,
        window_tokens: 32,
        scored: 62,
        conversion: score(2.7, 1),
        original: score(2.6, 0),
        distributions: Summary {
            kl_mean: 0.1234,
            kl_p99: 1.5,
            top1_agreement: 0.875,
            top5_agreement: 0.99,
        },
        nats_per_word: 0.133,
        by_position: vec![span(0, 0.2), span(16, f64::NAN)],
        layers: vec![layer(0, 0.01), layer(1, 0.25), layer(2, 0.125)],
        tensors: vec![
            tensor(0, "up", Some(0.081)),
            tensor(0, "down", Some(0.2)),
            tensor(1, "up", None),
            TensorError { sqnr_db: None, output_error: Some(0.0), ..tensor(1, "down", None) },
        ],
        notes: vec!["a note <with> signs".to_owned()],
    }
}

#[test]
fn the_page_shows_all_and_escapes_names() {
    let page = page(&comparison()).unwrap();
    assert_eq!(page.matches("role=\"img\"").count(), 4);
    for id in ["position", "stream", "layers", "worst", "tensors", "notes"] {
        assert!(page.contains(&format!("<section id=\"{id}\"")), "{id}");
    }
    for text in ["0.123", "87.5 %", "exact", "unknown", "20.0 %", "21.2", "4.09"] {
        assert!(page.contains(text), "{text}");
    }
    // Three of layers have an error, the one without any included.
    assert_eq!(page.matches("<rect class=\"cell\"").count(), 3 + 8);
    assert!(page.contains("&lt;up&gt;") && !page.contains("<up>") && !page.contains("<i>"));
    assert!(page.contains("a note &lt;with&gt; signs"));
    assert!(page.contains("script-src 'none'") && !page.contains("<script"));
    assert!(!page.contains("NaN") && !page.contains("url(") && !page.contains("http:"));
}

#[test]
fn the_text_fits_and_names_the_worst() {
    for width in [60, 80, 120] {
        let text = text(&comparison(), Some(width));
        assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
        let (up, down) = (text.find("<up>"), text.find("<down>"));
        assert!(down < up, "{text}");
        assert!(text.contains("the worst 3 of 4 matrices"), "{text}");
    }
    let text = text(&comparison(), None);
    assert!(text.contains("mean 0.123, 99 % below 1.500 nats"), "{text}");
    assert!(text.contains("0.133 nats a word (48 words)"), "{text}");
    let stream = "residual stream: worst behind layer 1, off by 25.0 % of its length; behind layer 2, \
                  the last: off by 12.5 % of its length";
    assert!(text.contains(stream), "{text}");
    assert!(text.contains("off by layer 1.0 % 25.0 % 12.5 %"), "{text}");
    let unknown =
        "1 token of the conversion has infinite or undefined logits: figures that include it";
    assert!(text.contains(unknown), "{text}");
    assert!(text.contains("only 62 tokens were scored"), "{text}");
}
