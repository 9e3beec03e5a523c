#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| nworkflow_state::fuzzing::run("key_set", data));
