//! From a model directory to packages: plugins found and chained, steps done once, all of it in an
//! output directory that is whole at any time.
//!
//! Nothing here knows the command line, and nothing prints: [`event::Event`]s tell what happens.

mod auto;
mod bits;
mod built_in_text;
mod bundle;
mod cache;
pub mod calibrate;
pub mod combiners;
pub mod compare;
pub mod component_options;
mod convert;
mod dry_run;
pub mod event;
mod execute;
mod far;
mod finish;
pub mod goal;
mod in_order;
mod job;
pub mod joining;
mod judging;
mod kept;
mod meta;
pub mod model_files;
pub mod model_source;
pub mod opinions;
pub mod original;
mod output_scale;
mod own_calibration;
mod packages;
pub mod plugins;
pub mod quantization;
pub mod quantizer_choice;
pub mod references;
mod report;
pub mod request;
mod rotation;
pub mod scratch;
mod settings;
pub mod sizes;
mod statistics;
mod steps;
mod stored_argument;
pub mod sweep;
pub mod task;
mod trial;
mod weight_record;
mod weight_report;
mod weight_values;
mod weights;
mod work;

pub use anemll_conversion::REPORT;
pub use convert::{dry_run, run};
pub use dry_run::DryRun;
