//! What crosses the plugin boundary, and the adapters on both sides of it.
//!
//! No other module names `abi_stable`, and plugin authors need not either.
//!
//! - [`v1`]: the types of epoch 1.
//! - [`guard`]: panics become errors.
//! - [`convert`]: errors, tensors and paths in their two forms.
//! - [`header`]: what a library exports.
//! - [`layout_sum`]: by what a host knows its own layout in a library.
//! - [`load`]: how a host gets at it.
//! - [`export`]: the plugin's side, safe trait objects behind the ABI's.
//! - [`remote`]: the host's side, the ABI's objects behind safe traits.
//! - [`services`], [`sink_check`]: host and sink, in both directions.

mod convert;
pub(crate) mod export;
pub(crate) mod guard;
pub(crate) mod header;
pub(crate) mod layout_sum;
pub(crate) mod load;
pub(crate) mod remote;
mod services;
mod sink_check;
// The derives of abi_stable generate unsafe code, and names that no one should read.
#[allow(
    unsafe_code,
    missing_docs,
    non_camel_case_types,
    non_local_definitions,
    unreachable_pub,
    clippy::all
)]
pub(crate) mod v1;
