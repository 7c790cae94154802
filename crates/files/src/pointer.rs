//! What Git LFS leaves where it has not fetched a file.

/// How such a pointer begins, today and in an early version.
const STARTS: [&[u8]; 2] = [b"version https://git-lfs", b"version https://hawser"];

/// Whether a file of these first bytes (some thirty are enough) is a pointer of Git LFS, and not the
/// file itself.
pub fn is_lfs_pointer(bytes: &[u8]) -> bool {
    STARTS.iter().any(|start| bytes.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_of_both_versions_are_known() {
        assert!(is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab"));
        assert!(is_lfs_pointer(b"version https://hawser.github.com/spec/v1\n"));
        assert!(!is_lfs_pointer(b"version 1") && !is_lfs_pointer(b""));
    }
}
