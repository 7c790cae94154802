#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| drop(anemll_fuzz::asset::asset(data)));
