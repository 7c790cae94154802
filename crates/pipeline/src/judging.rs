//! What a conversion asks of its model: statistics before the weights are written, and at the end
//! how far the result is from the original.

use crate::event::Event;
use crate::finish;
use crate::job::Job;
use crate::own_calibration::OwnCalibration;
use crate::quantization::Quantization;
use crate::report::StepReport;
use crate::request::{CalibrationChoice, ConvertRequest};
use crate::scratch;
use crate::statistics::Statistics;
use crate::work::Work;
use anemll_calibration::{Judge, Kind, Quality};
use anemll_codes as codes;
use anemll_generation::engine::Engine;
use anemll_plugin_api::data::Knowledge;
use anemll_plugin_api::{Error, Result};
use anemll_store::Store;
use std::path::Path;

/// Whether a calibration cannot be made of this model, or with these plugins.
fn does_not_suit(error: &Error) -> bool {
    [
        codes::CALIBRATION_INPUT,
        codes::EVALUATION_INPUT,
        codes::PLUGIN_NOT_FOUND,
        codes::RUNTIME_UNAVAILABLE,
        codes::OPERATION_UNSUPPORTED,
    ]
    .contains(&error.code.as_ref())
}

fn no_statistics(id: &str, why: &str) -> Error {
    Error::new(
        codes::USAGE,
        format!(
            "the quantizer `{id}` needs statistics of the weights' inputs with these options, but {why}"
        ),
    )
    .with_hint("give them with --calibration STATS, or leave the option `method` out")
}

impl Job<'_> {
    /// Has the model run a text, where the quantizer wants to know what weights are multiplied with
    /// and the user has neither given statistics nor refused them.
    pub(crate) fn calibrate(&self, work: &Work<'_>) -> Result<()> {
        let Some(quantization) = self.wants_statistics() else {
            return match &self.quantization {
                Some(quantization)
                    if self.settings.scheme.needs_statistics
                        && quantization.statistics().is_none() =>
                {
                    Err(no_statistics(&quantization.id, "--calibration none gives none"))
                }
                _ => Ok(()),
            };
        };
        let kind = match self.settings.scheme.statistics {
            Knowledge::Products => Kind::Products,
            _ => Kind::Squares,
        };
        if self.arguments.no_tokenizer {
            if self.settings.scheme.needs_statistics {
                return Err(no_statistics(
                    &quantization.id,
                    "without a tokenizer no text can be run",
                ));
            }
            let text = "not calibrated: without a tokenizer no text can be run";
            (work.show)(&Event::Note { text });
            return Ok(());
        }
        let scratch = scratch::place(self.arguments, &self.description);
        match self.own_calibration(work, &scratch).statistics(kind) {
            Ok(made) => quantization.take(Statistics::made(&made.path)?),
            // What the model or the installation does not allow leaves the weights themselves.
            Err(error) if does_not_suit(&error) && !self.settings.scheme.needs_statistics => {
                let text = format!("not calibrated, so tables follow the weights alone: {error}");
                (work.show)(&Event::Warning { text: &text });
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn wants_statistics(&self) -> Option<&Quantization> {
        let quantization = self.quantization.as_ref().filter(|_| self.sentence.is_none())?;
        let wanted = self.settings.scheme.statistics != Knowledge::Nothing
            && self.arguments.calibration == CalibrationChoice::Auto
            && quantization.statistics().is_none();
        wanted.then_some(quantization)
    }

    fn own_calibration<'b>(&'b self, work: &'b Work<'_>, scratch: &'b Path) -> OwnCalibration<'b> {
        OwnCalibration {
            arguments: self.arguments,
            plugins: self.plugins,
            host: self.host,
            model: work.weights.source.directory.path(),
            source_sha256: work.packages.source_sha256,
            tokenizer_sha256: work.small_files.fingerprint(),
            scratch,
            parameters: self.description.parameters,
            show: work.show,
        }
    }

    /// The test step: a few tokens run, and the model compared with the original.
    pub(crate) fn test(&self, work: &Work<'_>, store: &Store) -> Result<StepReport> {
        let Some(runtime) = &self.runtime else {
            return Ok(StepReport::left_out("--runtime none"));
        };
        if self.sentence.is_some() {
            return finish::test_vectors(runtime.as_ref(), &self.layout, store, self.host);
        }
        let judge = |engine: &mut Engine| self.quality(work, engine);
        finish::test(runtime.as_ref(), &self.layout, store, &self.description, self.host, judge)
    }

    /// How far the model is from the original; nothing where it has all of its bits, or no text can
    /// be run.
    fn quality(&self, work: &Work<'_>, engine: &mut Engine) -> Result<Option<Quality>> {
        let ConvertRequest { skip_quality, no_tokenizer, .. } = self.arguments;
        let Some(quantization) = &self.quantization else { return Ok(None) };
        if *skip_quality
            || *no_tokenizer
            || engine.gives_largest()
            || engine.evaluation_functions().is_empty()
        {
            return Ok(None);
        }
        let scratch = scratch::place(self.arguments, &self.description);
        let given = match quantization.statistics() {
            Some(statistics) => Judge::read(statistics.file())?,
            None => None,
        };
        let whole = match given.filter(|judge| judge.longest() as u64 <= engine.context()) {
            Some(judge) => judge,
            None => match self.own_calibration(work, &scratch).judge() {
                Ok(Some(judge)) => judge,
                Ok(None) => return Ok(None),
                Err(error) if error.is_cancelled() => return Err(error),
                Err(error) => {
                    let text = format!("the quality was not measured: {error}");
                    (work.show)(&Event::Note { text: &text });
                    return Ok(None);
                }
            },
        };
        let judge = whole.last_word();
        let total = judge.tokens();
        let progress =
            |done| (work.show)(&Event::Measure { what: "judging", unit: "tokens", done, total });
        judge.judge(engine, &progress).map(Some)
    }
}
