//! A record of the weight file as an argument of an operation.

use anemll_codes as codes;
use anemll_mil::{DataType, TensorType};
use anemll_plugin_api::{Error, Result};
use serde::{Deserialize, Serialize};

/// An argument of a constexpr operation: a record of the weight file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ConstexprArgument {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) offset: u64,
}

impl ConstexprArgument {
    /// Its type.
    ///
    /// # Errors
    /// It has the name of none.
    pub(crate) fn tensor_type(&self) -> Result<TensorType> {
        let data_type = DataType::from_name(&self.dtype).ok_or_else(|| {
            let reason = format!("`{}` is not a data type", self.dtype);
            Error::new(codes::GRAPH_INVALID, reason)
                .with_hint("run the conversion again with --force")
        })?;
        Ok(TensorType::new(data_type, &self.shape))
    }
}
