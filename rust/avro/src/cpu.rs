//! Loops that are compiled twice. A wheel has to run on every x86-64, and those of 2003 can't shift each lane by a
//! count of its own, nor count leading zeros: with the instructions of 2013 the same source takes a fifth less time.

/// What is worth being compiled twice. What it calls is, too, if it is inlined.
pub(crate) trait Work {
    type Done;
    fn run(self) -> Self::Done;
}

/// Does the work, as this processor does it best.
pub(crate) fn run<W: Work>(work: W) -> W::Done {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
    {
        #[expect(
            unsafe_code,
            reason = "there is no safe way to call what is compiled for a processor that was asked for"
        )]
        // SAFETY: the processor was just found to have every instruction that the function is compiled for.
        return unsafe { run_with_avx2(work) };
    }
    work.run()
}

/// Safe code: all that is inlined here is compiled for these instructions too.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn run_with_avx2<W: Work>(work: W) -> W::Done {
    work.run()
}
