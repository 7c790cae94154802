//! Compiler backend that calls Apple's coremlcompiler through xcrun.
