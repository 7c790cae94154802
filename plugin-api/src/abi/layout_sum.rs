//! By what a host knows that a plugin was built with the very layout that it has itself.

/// The version of `abi_stable`, which is pinned.
const ABI_STABLE: &str = "0.11.3";

/// The name of the symbol that is a [`LayoutSum`]. A plugin need not have one.
pub const LAYOUT_SYMBOL: &str = "ANEMLL_PLUGIN_LAYOUT";

/// Bytes of a [`LayoutSum`].
const LENGTH: usize = 64;

/// The version of `abi_stable`, a space, and the sum that `build.rs` makes of the types' source, the
/// compiler, its flags and the target; zeros behind it.
///
/// Two builds of one sum lay out the types of the boundary alike: they are the same source in the same
/// compiler. So they need not be compared type by type, which takes half of the time of loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct LayoutSum([u8; LENGTH]);

impl LayoutSum {
    /// That of this build.
    pub const OWN: Self = Self::of(ABI_STABLE.as_bytes(), env!("ANEMLL_LAYOUT_SUM").as_bytes());

    const fn of(version: &[u8], sum: &[u8]) -> Self {
        let mut bytes = [0; LENGTH];
        if sum.is_empty() {
            return Self(bytes);
        }
        assert!(version.len() + 1 + sum.len() <= LENGTH, "version and sum fit");
        let mut at = 0;
        while at < version.len() {
            bytes[at] = version[at];
            at += 1;
        }
        bytes[at] = b' ';
        at += 1;
        let mut from = 0;
        while from < sum.len() {
            bytes[at + from] = sum[from];
            from += 1;
        }
        Self(bytes)
    }

    /// Whether a plugin of this sum has the layout of this build. A build of which nothing is known is
    /// not even like itself.
    pub fn is_own(&self) -> bool {
        self.0[0] != 0 && *self == Self::OWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_version_and_sum_are_alike() {
        assert!(LayoutSum::OWN.is_own());
        let own = env!("ANEMLL_LAYOUT_SUM").as_bytes();
        assert_eq!(own.len(), 32);
        assert_eq!(ABI_STABLE, abi_stable::ABI_STABLE_VERSION.version.as_str());
        let version = ABI_STABLE.as_bytes();
        assert!(LayoutSum::of(version, own).is_own());
        assert!(!LayoutSum::of(b"0.11.2", own).is_own());
        let mut other = own.to_vec();
        other[31] ^= 1;
        assert!(!LayoutSum::of(version, &other).is_own());
        assert!(!LayoutSum::of(version, b"").is_own());
    }

    #[test]
    fn the_macro_exports_the_name_that_hosts_look_for() {
        // The attribute takes a literal only, so `export_plugin!` repeats the name.
        assert!(include_str!("../macros.rs").contains(&format!("\"{LAYOUT_SYMBOL}\"")));
    }
}
