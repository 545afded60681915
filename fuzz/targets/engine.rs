//! Any sequence of notifications, of the network's and other threads' doings and of failures, against
//! a world without a kernel. The rules are in `bypass-core/src/engine/model.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bypass_core::fuzzing::engine(bytes));
