//! New plugins.
