//! Loops that are compiled three times. A wheel has to run on every x86-64, and those of 2003 can't shift each lane by a
//! count of its own, nor count leading zeros: with the instructions of 2013 the same source takes a fifth less time, and
//! with those of 2017, of twice as many lanes, a tenth less again.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Bytes that a processor fetches at once.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// What is worth being compiled for several processors. What it calls is, too, if it is inlined.
pub(crate) trait Work {
    type Done;
    fn run(self) -> Self::Done;
}

/// What work is compiled for. A processor that has one form has those before it.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// Every processor.
    Plain,
    Avx2,
    Avx512,
}

impl Form {
    /// The best one that this processor has.
    fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        if has_avx2() {
            return match has_avx512() {
                true => Self::Avx512,
                false => Self::Avx2,
            };
        }
        Self::Plain
    }
}

/// Does the work, as this processor does it best.
pub(crate) fn run<W: Work>(work: W) -> W::Done {
    run_as(Form::Avx512, work)
}

/// Does the work in this form, or in the best one that this processor has before it.
#[cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "there is no safe way to call what is compiled for a processor that was asked for"
    )
)]
pub(crate) fn run_as<W: Work>(form: Form, work: W) -> W::Done {
    match form.min(Form::best()) {
        // SAFETY: the processor was just found to have every instruction that the function is compiled for.
        #[cfg(target_arch = "x86_64")]
        Form::Avx512 => unsafe { run_with_avx512(work) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Form::Avx2 => unsafe { run_with_avx2(work) },
        _ => work.run(),
    }
}

/// Has memory brought near that is read or written soon. Does nothing but that, and nothing on other processors.
#[inline(always)]
#[cfg_attr(
    target_arch = "x86_64",
    expect(
        unsafe_code,
        reason = "there is no safe way to ask for a line of memory"
    )
)]
pub(crate) fn fetch<T>(what: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..size_of_val(what)).step_by(LINE) {
        let line = what.as_ptr().cast::<i8>().wrapping_add(at);
        // SAFETY: every x86-64 has the instruction, which neither reads nor writes, and can't fail whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = what;
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("lzcnt")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// Safe code: all that is inlined here is compiled for these instructions too.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn run_with_avx2<W: Work>(work: W) -> W::Done {
    work.run()
}

/// As [`run_with_avx2`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt")]
fn run_with_avx512<W: Work>(work: W) -> W::Done {
    work.run()
}
