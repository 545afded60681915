//! Options about the file that has options.

use std::path::PathBuf;

use clap::{Args, ValueHint};

#[derive(Args, Debug)]
#[command(next_help_heading = "Configuration")]
pub(crate) struct ConfigArgs {
    /// Take options that are not given here from this file, in TOML
    /// [default: $XDG_CONFIG_HOME/bypass/config.toml, if it is there].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// Read no such file.
    #[arg(long, conflicts_with = "config")]
    no_config: bool,
}

impl ConfigArgs {
    /// The file that says more, if one does.
    pub(crate) fn file(&self) -> Option<&PathBuf> {
        self.config.as_ref().filter(|_| !self.no_config)
    }
}
