//! What was found, as JUnit's XML, which every CI shows.

use anyhow::{Context, Result};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::path::Path;
use std::time::Duration;

/// One check, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// What was checked.
    pub name: String,
    /// How long that took, in seconds; none if it isn't known for this one alone.
    pub seconds: Option<f64>,
    /// Why it failed, if it did: a line, and all that is to be told after it.
    pub failure: Option<String>,
}

/// Writes all checks of a command into a file.
///
/// # Errors
/// If it can't be written.
pub fn write(path: &Path, command: &str, cases: &[Case]) -> Result<()> {
    let mut suite = TestSuite::new(command);
    suite.add_test_cases(cases.iter().map(|case| case.to_junit(command)));
    let mut report = Report::new("primacy");
    report.add_test_suite(suite);
    let text = report.to_string().context("put the report into words")?;
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

impl Case {
    fn to_junit(&self, command: &str) -> TestCase {
        let status = match &self.failure {
            None => TestCaseStatus::success(),
            Some(text) => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(text.lines().next().unwrap_or_default()).set_description(text);
                status
            }
        };
        let mut case = TestCase::new(self.name.as_str(), status);
        case.set_classname(command);
        if let Some(seconds) = self.seconds {
            case.set_time(Duration::from_secs_f64(seconds));
        }
        case
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_counted_and_told() {
        let path = std::env::temp_dir().join(format!("primacy-junit-{}.xml", std::process::id()));
        let case = |name: &str, failure: Option<&str>| Case {
            name: name.to_owned(),
            seconds: Some(1.5),
            failure: failure.map(str::to_owned),
        };
        write(&path, "sim sweep", &[case("seeds 0..9", None), case("seed 3", Some("I1: a & b\nall of it"))])
            .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        for part in [
            r#"<testsuite name="sim sweep" tests="2""#,
            r#"failures="1""#,
            r#"<testcase name="seeds 0..9" classname="sim sweep" time="1.500""#,
            r#"<failure message="I1: a &amp; b">I1: a &amp; b
all of it</failure>"#,
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }
}
