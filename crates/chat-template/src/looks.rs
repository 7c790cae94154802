//! What stands in place of a template when a download went wrong.

use crate::LARGEST_SOURCE;
use crate::failure::{Failure, Kind};

/// Refuses what does not look like a template.
pub(crate) fn check(source: &str) -> Result<(), Failure> {
    let refuse = |reason: &str| Err(Failure::new(Kind::Invalid, None, reason));
    if source.len() > LARGEST_SOURCE {
        return refuse("it is longer than any template");
    }
    let text = source.trim_start_matches('\u{feff}').trim_start();
    if anemll_files::is_lfs_pointer(text.as_bytes()) {
        return refuse("it is a pointer of Git LFS, not the file; `git lfs pull` fetches that");
    }
    let start: String = text.chars().take(64).collect::<String>().to_ascii_lowercase();
    if start.starts_with("<!doctype html") || start.starts_with("<html") {
        return refuse("it is a web page, as from a download that went wrong; fetch it again");
    }
    if source.contains('\0') || source.chars().filter(|c| is_binary(*c)).count() > 8 {
        return refuse("it is not text, so the file is damaged; fetch it again");
    }
    Ok(())
}

fn is_binary(character: char) -> bool {
    character.is_control() && !character.is_whitespace()
}
