//! What all plots are drawn in.

use crate::page::escape;

/// Sizes in units of the drawing, which pages scale to their width.
pub(super) const WIDTH: f64 = 480.0;
pub(super) const HEIGHT: f64 = 300.0;
pub(super) const LEFT: f64 = 66.0;
pub(super) const RIGHT: f64 = 14.0;
pub(super) const TOP: f64 = 16.0;
pub(super) const BOTTOM: f64 = 52.0;

/// A drawing with its title and description.
pub(super) fn wrap(
    id: &str,
    title: &str,
    description: &str,
    (width, height): (f64, f64),
    body: &str,
) -> String {
    format!(
        r#"<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{id}-title {id}-text">
<title id="{id}-title">{}</title><desc id="{id}-text">{}</desc>
{body}</svg>"#,
        escape(title),
        escape(description)
    )
}
