//! From a model directory to packages: plugins found and chained, steps done once, all of it in an
//! output directory that is whole at any time.
//!
//! Nothing here knows the command line, and nothing prints: [`event::Event`]s tell what happens.

mod auto;
pub mod combiners;
mod convert;
mod dry_run;
pub mod event;
mod execute;
mod finish;
mod in_order;
mod job;
pub mod lut;
mod meta;
pub mod model_files;
pub mod model_source;
mod names;
mod packages;
pub mod plugins;
mod quantization;
pub mod references;
mod report;
pub mod request;
mod settings;
pub mod sizes;
mod statistics;
mod steps;
mod weight_record;
mod weight_report;
mod weight_values;
mod weights;
mod work;

pub use convert::{dry_run, run};
pub use dry_run::DryRun;
pub use names::REPORT;
