//! Whether a program can tell that it does not run natively: the same run twice, once in the host
//! namespace and once under `bypass-cli run`, and compared.
//!
//! - [`expected`]: the differences that are known
//! - [`generate`]: sequences of socket calls, at random
//! - [`sequences`]: these, run on both sides; the first difference is made as short as it gets

pub mod expected;
pub mod generate;
pub mod sequences;
