//! A conversion that is made to be measured: into a temporary folder, opened, and thrown away.

use crate::convert;
use crate::event::Event;
use crate::plugins::Plugins;
use crate::report::WeightFileReport;
use crate::request::{CPU, ConvertRequest, NONE};
use crate::scratch;
use crate::weight_record::{self, WeightRecord};
use anemll_conversion::META;
use anemll_generation::engine::Engine;
use anemll_plugin_api::{Error, Host, Result};
use std::path::Path;

/// A conversion that can be run.
pub(crate) struct Trial {
    /// Runs it.
    pub(crate) engine: Engine,
    // Goes when the engine has closed its files.
    folder: tempfile::TempDir,
}

impl Trial {
    /// Converts as asked, but into a folder in `place`, without a tokenizer, a compiled model or a
    /// test.
    ///
    /// # Errors
    /// Those of a conversion and of opening it.
    pub(crate) fn make(
        request: &ConvertRequest,
        place: &Path,
        plugins: &Plugins,
        host: &Host,
        show: &dyn Fn(&Event<'_>),
    ) -> Result<Self> {
        let folder = scratch::folder(place, "anemll-plan-")?;
        let request = ConvertRequest {
            output: folder.path().to_owned(),
            compiler: Some(NONE.to_owned()),
            runtime: NONE.to_owned(),
            no_tokenizer: true,
            restart: None,
            only: None,
            force: true,
            argmax: false,
            verify: None,
            ..request.clone()
        };
        convert::run(&request, plugins, "", show)?;
        let runtime = plugins.exact_runtime(CPU)?;
        let engine = Engine::open(&folder.path().join(META), runtime.as_ref(), host)?;
        Ok(Self { engine, folder })
    }

    /// What was written into each weight file.
    ///
    /// # Errors
    /// A record cannot be read.
    pub(crate) fn weight_files(&self) -> Result<Vec<WeightFileReport>> {
        let folder = self.folder.path().join(weight_record::folder());
        let entries = std::fs::read_dir(&folder).map_err(|source| {
            let what = "cannot read what a trial has written";
            anemll_store::io_error(anemll_codes::OUTPUT_UNWRITABLE, what, &folder, &source)
        })?;
        let paths = entries.flatten().map(|entry| entry.path());
        paths.map(|path| Ok::<_, Error>(WeightRecord::read(&path)?.report)).collect()
    }
}
