//! The structured data that crosses the plugin boundary, as JSON.
//!
//! Keys may be added within an ABI epoch: readers ignore keys that they do not know, and every key
//! that was added later has a default.

/// Methods that set one field and give the struct back.
macro_rules! builders {
    ($(impl $type:ident $(<$life:lifetime>)? {
        $($(#[$about:meta])* $method:ident($field:ident: $value:ty);)+
    })+) => {$(
        impl $(<$life>)? $type $(<$life>)? {$(
            #[doc = concat!("The same with this [`", stringify!($field), "`](Self::", stringify!($field), ").")]
            $(#[$about])*
            #[must_use]
            pub fn $method(mut self, $field: $value) -> Self {
                self.$field = $field.into();
                self
            }
        )+}
    )+};
}

mod embedding;
mod joined;
mod layout;
mod manifest;
mod model;
mod quantize;
mod runtime;
mod weight_reference;

pub use embedding::*;
pub use joined::*;
pub use layout::*;
pub use manifest::*;
pub use model::*;
pub use quantize::*;
pub use runtime::*;
pub use weight_reference::*;

#[cfg(test)]
mod tests {
    #[test]
    fn structs_and_enums_can_grow() {
        let sources = [
            include_str!("embedding.rs"),
            include_str!("joined.rs"),
            include_str!("layout.rs"),
            include_str!("manifest.rs"),
            include_str!("model.rs"),
            include_str!("quantize.rs"),
            include_str!("runtime.rs"),
            include_str!("weight_reference.rs"),
        ];
        let items = sources.iter().flat_map(|text| text.split("\n\n")).filter(|item| {
            item.lines()
                .any(|line| line.starts_with("pub struct ") || line.starts_with("pub enum "))
        });
        let mut count = 0;
        for item in items {
            assert!(item.contains("#[non_exhaustive]\npub "), "{item}");
            assert_eq!(item.contains("\npub enum "), item.contains("#[serde(other)]"), "{item}");
            count += 1;
        }
        assert!(count > 30, "{count}");
    }
}
