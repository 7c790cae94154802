//! What functions take and give, compared with what apps give and take.

use super::Findings;
use anemll_aicode::{DYNAMIC, ElementType, Function, Port, TensorType, Type};

/// A size as apps have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// This one.
    Is(u64),
    /// Known only when it runs.
    Open,
    /// One that is known, whichever it is.
    Any,
}

impl Size {
    fn suits(self, size: i64) -> bool {
        match self {
            Self::Is(wanted) => u64::try_from(size) == Ok(wanted),
            Self::Open => size == DYNAMIC,
            Self::Any => size > 0,
        }
    }

    fn text(self) -> String {
        match self {
            Self::Is(size) => size.to_string(),
            Self::Open => "?".to_owned(),
            Self::Any => "any".to_owned(),
        }
    }
}

/// A function that is looked at, and where findings go.
pub(super) struct Looked<'a, 'b> {
    asset: &'a str,
    function: &'a Function,
    found: &'b mut Findings,
}

impl<'a, 'b> Looked<'a, 'b> {
    pub(super) fn new(asset: &'a str, function: &'a Function, found: &'b mut Findings) -> Self {
        Self { asset, function, found }
    }

    /// What is wrong with the function.
    pub(super) fn wrong(&mut self, what: &str) {
        self.found.fatal(self.asset, format!("`{}` {what}", self.function.name));
    }

    /// Inputs that are no states.
    pub(super) fn inputs(&self) -> Vec<&'a Port> {
        let is_tensor = |port: &&Port| matches!(port.kind, Type::Tensor(_));
        self.function.inputs.iter().filter(is_tensor).collect()
    }

    /// States, with the tensors that they hold.
    pub(super) fn states(&self) -> Vec<(&'a str, &'a TensorType)> {
        let state = |port: &'a Port| match &port.kind {
            Type::State(tensor) => Some((port.name.as_deref().unwrap_or_default(), tensor)),
            _ => None,
        };
        self.function.inputs.iter().filter_map(state).collect()
    }

    /// Outputs that are tensors.
    pub(super) fn outputs(&self) -> Vec<&'a Port> {
        let is_tensor = |port: &&Port| matches!(port.kind, Type::Tensor(_));
        self.function.outputs.iter().filter(is_tensor).collect()
    }

    /// Says where a port has another type than apps give or take.
    pub(super) fn compare(&mut self, port: &Port, element: ElementType, shape: &[Size]) -> bool {
        let (Type::Tensor(kind) | Type::State(kind)) = &port.kind else { return false };
        self.compare_tensor(port.name.as_deref().unwrap_or_default(), kind, element, shape)
    }

    /// As [`Self::compare`], of a tensor by its name.
    pub(super) fn compare_tensor(
        &mut self,
        name: &str,
        kind: &TensorType,
        element: ElementType,
        shape: &[Size],
    ) -> bool {
        let suits = kind.shape.len() == shape.len()
            && shape.iter().zip(&kind.shape).all(|(wanted, size)| wanted.suits(*size));
        if kind.element == element && suits {
            return true;
        }
        let sizes: Vec<String> = shape.iter().map(|size| size.text()).collect();
        let wanted = format!("{} ({})", element.name(), sizes.join(", "));
        let name = if name.is_empty() { "a value without a name" } else { name };
        self.wrong(&format!("has `{name}` as {kind}; apps have {wanted}"));
        false
    }
}

/// The port whose name has this in it.
pub(super) fn with<'a>(ports: &[&'a Port], part: &str) -> Option<&'a Port> {
    let has = |port: &&&'a Port| port.name.as_deref().is_some_and(|name| name.contains(part));
    ports.iter().find(has).copied()
}

/// A size of a port's tensor.
pub(super) fn size(port: &Port, axis: usize) -> Option<u64> {
    let (Type::Tensor(kind) | Type::State(kind)) = &port.kind else { return None };
    kind.shape.get(axis).and_then(|size| u64::try_from(*size).ok())
}
