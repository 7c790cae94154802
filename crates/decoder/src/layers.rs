//! In what the layers of a model differ, as a configuration says it.

use crate::block::{DeltaNet, ShortConvolution};

/// In what the layers of a model differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layers {
    /// In nothing.
    Same(LayerForm),
    /// In what stands here, first layer first.
    Each(Vec<LayerForm>),
}

impl Default for Layers {
    fn default() -> Self {
        Self::Same(LayerForm::default())
    }
}

impl Layers {
    /// A layer.
    pub fn of(&self, layer: u32) -> LayerForm {
        match self {
            Self::Same(form) => *form,
            Self::Each(forms) => forms.get(layer as usize).copied().unwrap_or_default(),
        }
    }

    /// The same layers, each changed by what is known of it.
    #[must_use]
    pub fn map(self, change: impl Fn(usize, LayerForm) -> LayerForm) -> Self {
        match self {
            Self::Same(form) => Self::Same(change(0, form)),
            Self::Each(forms) => {
                let forms = forms.into_iter().enumerate();
                Self::Each(forms.map(|(layer, form)| change(layer, form)).collect())
            }
        }
    }
}

/// What is a layer's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerForm {
    /// Tokens that a token sees, itself among them; `None` is all before it.
    pub window: Option<u64>,
    /// How it rotates queries and keys.
    pub rotation: LayerRotation,
    /// What mixes tokens.
    pub mixer: LayerMixer,
}

/// What mixes tokens in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayerMixer {
    /// Attention, as the family has it.
    #[default]
    Attention,
    /// This short convolution.
    ShortConvolution(ShortConvolution),
    /// This linear attention.
    DeltaNet(DeltaNet),
}

/// How a layer rotates queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayerRotation {
    /// As `rope_theta` and `rope_scaling` say.
    #[default]
    Global,
    /// As the family's local rotation says.
    Local,
    /// Not at all.
    None,
}
