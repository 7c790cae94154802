//! The one error type of this crate: a sentence with its place.

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a program, a model or a request to the builder was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Error {
    /// Function that the fault is in, if it is in one.
    pub function: Option<String>,
    /// First output (or `name` attribute) of the operation at fault.
    pub operation: Option<String>,
    /// Type of the operation at fault, such as `conv`.
    pub operation_type: Option<String>,
    /// What is wrong, with the names and types that show it.
    pub message: String,
}

impl Error {
    /// An error without a place.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// The same error inside a function.
    #[must_use]
    pub fn in_function(mut self, function: &str) -> Self {
        self.function.get_or_insert_with(|| function.to_owned());
        self
    }

    /// The same error at an operation.
    #[must_use]
    pub fn at_operation(mut self, operation: &str, operation_type: &str) -> Self {
        self.operation.get_or_insert_with(|| operation.to_owned());
        self.operation_type.get_or_insert_with(|| operation_type.to_owned());
        self
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(function) = &self.function {
            write!(formatter, "function `{function}`")?;
            let more = self.operation.is_some() || self.operation_type.is_some();
            formatter.write_str(if more { ", " } else { ": " })?;
        }
        match (&self.operation, &self.operation_type) {
            (Some(operation), Some(kind)) if !operation.is_empty() => {
                write!(formatter, "operation `{operation}` ({kind}): ")?;
            }
            (_, Some(kind)) => write!(formatter, "operation {kind}: ")?,
            (Some(operation), None) => write!(formatter, "operation `{operation}`: ")?,
            (None, None) => {}
        }
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<String> for Error {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_the_place() {
        let error = Error::new("no good").at_operation("x_1", "conv").in_function("main");
        assert_eq!(error.to_string(), "function `main`, operation `x_1` (conv): no good");
        assert_eq!(Error::new("no good").to_string(), "no good");
    }

    #[test]
    fn the_innermost_place_wins() {
        let error = Error::new("m").at_operation("a", "add").at_operation("b", "cond");
        assert_eq!(error.operation.as_deref(), Some("a"));
    }
}
