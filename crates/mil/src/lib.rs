//! MIL programs: typed builder, type and shape inference, validator and Neural Engine lint.
