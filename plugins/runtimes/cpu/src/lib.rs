//! Runtime that executes ML Program packages on any CPU.
