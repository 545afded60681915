//! Tests that need a kernel.
fn main() {}
