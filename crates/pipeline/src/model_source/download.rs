//! Downloads, as the program shows and stops them.

use super::{HubEnvironment, Need};
use crate::event::Event;
use anemll_hub::{Limits, Name, Progress, Watch};
use anemll_services::check_cancelled;
use std::path::PathBuf;

/// Shows a download as events, and ends it on Ctrl-C.
struct Shown<'a>(&'a dyn Fn(&Event<'_>));

impl Watch for Shown<'_> {
    fn tell(&self, progress: &Progress<'_>) {
        (self.0)(&match *progress {
            Progress::Note(text) => Event::Note { text },
            Progress::Bytes { file, done, total } => Event::Download { file, done, total },
        });
    }

    fn goes_on(&self) -> bool {
        check_cancelled().is_ok()
    }
}

/// Downloads what of a model is not in the cache yet.
pub(super) fn ask(
    name: &Name,
    need: Need,
    environment: &HubEnvironment,
    show: &dyn Fn(&Event<'_>),
) -> anemll_hub::Result<PathBuf> {
    anemll_hub::download(name, need, environment, &Limits::default(), &Shown(show))
}
