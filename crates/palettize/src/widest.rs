//! The widest vector instructions that the processor has.

/// Runs `work` compiled for AVX2 where the processor has it; on others the instructions that every
/// one has are as wide (NEON) or half as wide (SSE2). `work` and what it calls should be
/// `#[inline(always)]`, so that their loops are compiled once more. No operation is fused or put
/// into another order, so that the result is the same everywhere.
#[inline(always)]
pub(crate) fn widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, by the check above.
        #[expect(
            unsafe_code,
            reason = "the only way to call what is compiled for more than all have"
        )]
        return unsafe { with_avx2(work) };
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}
