//! Files of an output directory that are the same whatever the layout is.

/// Name of the report in the output directory.
pub const REPORT: &str = "anemll-report.json";
