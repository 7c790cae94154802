//! The steps of a conversion carried out.

use crate::dry_run;
use crate::event::Event;
use crate::finish;
use crate::job::Job;
use crate::packages;
use crate::report::StepReport;
use crate::steps::{Selection, Task};
use crate::work::Work;
use anemll_calibration::Quality;
use anemll_plugin_api::Result;
use anemll_services::check_cancelled;
use anemll_store::{StepRecord, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

impl Job<'_> {
    /// Does what is selected of the steps, and records what each made.
    pub(crate) fn run_steps(
        &self,
        work: &Work<'_>,
        selection: Selection,
        command_line: &str,
        store: &mut Store,
    ) -> Result<()> {
        let workers = self.workers(work.small_files);
        let selected = work.steps.to_run(selection, store.view(), workers)?;
        // Before any work: what the steps will make takes the place of nothing that is not ours.
        let outputs = self.outputs(work.steps, &selected, work.small_files, |step, made| {
            store.adopt(step, made)
        })?;
        store.refuse_foreign(&outputs)?;
        let writes = selected.iter().any(|number| work.steps.task(*number) == Task::Packages);
        if writes && !self.arguments.skip_check {
            dry_run::check_disk(self, work.functions)?;
        }
        if writes {
            self.calibrate(work)?;
            self.choose_bits(work)?;
        }
        work.expect(&selected)?;
        for step in work.steps.iter() {
            if !selected.contains(&step.number) {
                if selection == Selection::Unfinished {
                    (work.show)(&Event::Step {
                        number: step.number,
                        title: &step.title,
                        message: "is finished",
                    });
                }
                continue;
            }
            check_cancelled()?;
            store.begin(step.number)?;
            let task = work.steps.task(step.number);
            if matches!(task, Task::Compile | Task::Test) {
                // What fails from here on is mended elsewhere than in the model or the options.
                store.keep();
            }
            let demanded = selection == Selection::Only(step.number);
            let mut inputs = String::new();
            let (outputs, packages, by, outcome) = match task {
                Task::Packages => {
                    let (outputs, packages) = work.run(step.number, store)?;
                    (outputs, packages, "", StepReport::told(true, ""))
                }
                Task::Compile => {
                    let demanded = demanded || self.arguments.compiler.is_some();
                    let (outputs, outcome) = match &self.compiler {
                        Some(compiler) => finish::Compiling {
                            id: &self.compiler_id,
                            compiler: compiler.as_ref(),
                            ending: &self.compiled_ending(),
                            layout: &self.layout,
                            joined: self.joined.as_ref(),
                        }
                        .run(demanded, store, self.host)?,
                        None => (Vec::new(), StepReport::left_out("--compiler none")),
                    };
                    (outputs, Vec::new(), self.compiler_id.as_str(), outcome)
                }
                Task::Files => {
                    let quality = known_quality(work, store, &selected);
                    let outputs = self.write_small_files(work, store, command_line, quality)?;
                    inputs = work.small_files.fingerprint();
                    let outcome = StepReport::told(true, "");
                    (outputs, Vec::new(), "", outcome)
                }
                Task::Test => {
                    let (outputs, packages) = work.run(step.number, store)?;
                    (outputs, packages, workers.runtime, self.test(work, store)?)
                }
            };
            (work.show)(&Event::Step {
                number: step.number,
                title: &step.title,
                message: &outcome.message,
            });
            let findings = match &outcome.quality {
                None => Value::Null,
                Some(quality) => {
                    (work.show)(&Event::Quality(quality));
                    json!({ "quality": quality })
                }
            };
            let record = StepRecord {
                number: step.number,
                outputs: BTreeMap::new(),
                packages: packages::to_record(&packages)?,
                by: by.to_owned(),
                inputs,
                done: outcome.done,
                message: outcome.message,
                findings,
            };
            let quality = outcome.quality;
            store.finish_step(record, &outputs)?;
            if let (Task::Test, Some(quality)) = (task, quality) {
                self.note_quality(work, store, command_line, quality)?;
            }
        }
        Ok(())
    }

    /// Writes meta.yaml, the description, and the tokenizer and its kin; gives their names.
    fn write_small_files(
        &self,
        work: &Work<'_>,
        store: &Store,
        command_line: &str,
        quality: Option<Quality>,
    ) -> Result<Vec<PathBuf>> {
        let directory = work.weights.source.directory.path();
        let meta = self.meta(directory, command_line, work.packages.source_sha256, quality)?;
        let description = self.run_description(work.functions)?;
        work.small_files.write(store, &meta, &description)
    }

    /// Writes the small files again, with what the test, which needs them, has measured.
    fn note_quality(
        &self,
        work: &Work<'_>,
        store: &mut Store,
        command_line: &str,
        quality: Quality,
    ) -> Result<()> {
        let of_files =
            |record: &&StepRecord| work.steps.task(record.number) == Task::Files && record.done;
        let Some(record) = store.view().records().find(of_files).cloned() else { return Ok(()) };
        store.begin(record.number)?;
        let outputs = self.write_small_files(work, store, command_line, Some(quality))?;
        store.finish_step(StepRecord { outputs: BTreeMap::new(), ..record }, &outputs)
    }
}

/// What an earlier test has measured; nothing where one of `selected` measures anew, or no more.
fn known_quality(work: &Work<'_>, store: &Store, selected: &[u32]) -> Option<Quality> {
    let mut records = store.view().records();
    let test = records.find(|record| work.steps.task(record.number) == Task::Test)?;
    if selected.contains(&test.number) {
        return None;
    }
    serde_json::from_value(test.findings["quality"].clone()).ok()
}
