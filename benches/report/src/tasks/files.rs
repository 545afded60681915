//! Work on files, and work alone: what a way to the network must not make slower.

use std::fs;

use test_support::failure::Result;

use super::{Figures, Task};
use crate::lab::{Lab, number};
use crate::ways::Way;

pub(super) fn tasks() -> Vec<Box<dyn Task>> {
    vec![Box::new(Files::default())]
}

#[derive(Default)]
struct Files {
    tree: String,
    source: String,
}

impl Task for Files {
    fn keys(&self) -> &'static [&'static str] {
        &["open-close", "tar", "compile"]
    }

    /// Beside our own programs, which containers are shown as well.
    fn prepare(&mut self, lab: &Lab<'_>) -> Result {
        let tree = lab.world.programs().join("tree");
        for directory in 0..40 {
            let directory = tree.join(directory.to_string());
            fs::create_dir_all(&directory)?;
            for file in 0..100 {
                fs::write(directory.join(file.to_string()), [b'x'; 2_048])?;
            }
        }
        let source = lab.world.programs().join("source.c");
        let functions = (0..FUNCTIONS).map(|number| {
            format!(
                "int f{number}(int a, int *b) {{ int s = a; \
                   for (int i = 0; i < {}; i++) s += b[i] * (a ^ i) - f{}(s & 7, b); return s; }}\n",
                number % 17 + 3,
                number / 2,
            )
        });
        let declared: String =
            (0..FUNCTIONS).map(|number| format!("int f{number}(int, int *);\n")).collect();
        fs::write(&source, declared + &functions.collect::<String>())?;
        self.tree = tree.display().to_string();
        self.source = source.display().to_string();
        Ok(())
    }

    fn measure(&self, lab: &Lab<'_>, way: &Way) -> Result<Figures> {
        let opens = lab.client(way, &["opens", &self.source, "1000"])?;
        let time = |words: &[&str]| -> Result<f64> {
            let count = lab.choose(3, 1).to_string();
            let answer = lab.client(way, &[&["commands", &count], words].concat())?;
            Ok(number(&answer, "/p50_us")? / 1e3)
        };
        // tar would not read what goes to /dev/null.
        let tar = format!("tar -cf - {} | cat > /dev/null", self.tree);
        Ok(vec![
            ("open-close", number(&opens, "/p50_us")?),
            ("tar", time(&["sh", "-c", &tar])?),
            ("compile", time(&["gcc", "-O1", "-S", "-o", "-", &self.source])?),
        ])
    }
}

/// That a compiler takes about half a second for.
const FUNCTIONS: u32 = 250;
