//! Files of the report: what was measured, and what is made of it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use test_support::ensure;
use test_support::failure::{Context, Result};

use crate::schema::{Report, VERSION};
use crate::{markdown, plot};

/// Name of the file that the others are made of.
pub(crate) const JSON: &str = "report.json";

/// Names and contents.
pub(crate) fn files(report: &Report) -> Result<Vec<(String, String)>> {
    let mut files = vec![
        (JSON.to_owned(), serde_json::to_string_pretty(report)? + "\n"),
        ("report.md".to_owned(), markdown::report(report)),
        ("headline.svg".to_owned(), plot::headline(report)?),
    ];
    for (name, rows) in report.groups() {
        files.push((plot::file_name(name), plot::group(report, name, &rows)?));
    }
    Ok(files)
}

/// Reads a report from before.
pub(crate) fn read(path: &Path) -> Result<Report> {
    let text = fs::read(path).context(path.display())?;
    let report: Report = serde_json::from_slice(&text).context(path.display())?;
    ensure!(report.version == VERSION, "{}: version {}", path.display(), report.version);
    Ok(report)
}

/// Writes all of them.
pub(crate) fn write(directory: &Path, files: &[(String, String)]) -> Result {
    for (name, content) in files {
        replace(&directory.join(name), content.as_bytes())?;
    }
    Ok(())
}

/// Writes one. It belongs to the owner of the directory: measuring takes root, but nobody wants files of
/// root in a clone.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result {
    let directory = path.parent().filter(|parent| *parent != Path::new(""));
    let owner =
        fs::metadata(directory.unwrap_or_else(|| Path::new("."))).context(path.display())?;
    let mut file = fs::File::create(path).context(path.display())?;
    file.write_all(content).context(path.display())?;
    // Who is not root owns them already.
    let _refused = fchown(&file, Some(owner.uid()), Some(owner.gid()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/benchmarks")
    }

    #[test]
    fn tables_and_plots_in_the_repository_are_those_of_its_json() {
        let report = read(&committed().join(JSON)).unwrap();
        for (name, content) in files(&report).unwrap() {
            let there = fs::read_to_string(committed().join(&name)).unwrap();
            assert!(there == content, "{name} is another: `make bench ARGS=--render`");
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = read(&committed().join(JSON)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &files(&report).unwrap()).unwrap();
        assert_eq!(read(&directory.path().join(JSON)).unwrap(), report);
    }

    #[test]
    fn a_report_of_another_version_is_refused() {
        let mut report = read(&committed().join(JSON)).unwrap();
        report.version += 1;
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), &files(&report).unwrap()).unwrap();
        assert!(read(&directory.path().join(JSON)).is_err());
    }
}
