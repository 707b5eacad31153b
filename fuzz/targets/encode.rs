#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kappaflow_fuzz::encode::run(data));
