//! `cargo verify`: everything that is checked about this repository, part by part.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use primacy_tests::parts::{PARTS, Part, Verdict, When};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let full = arguments.iter().any(|argument| argument == "--full");
    let names: Vec<&String> = arguments.iter().filter(|argument| *argument != "--full").collect();
    if let Some(wrong) = names.iter().find(|name| !PARTS.iter().any(|part| part.name == name.as_str())) {
        let all: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        eprintln!("cargo verify [--full] [PART]...: no part is called {wrong}; there are {}", all.join(" "));
        return ExitCode::from(2);
    }
    let chosen = |part: &&Part| names.is_empty() || names.iter().any(|name| *name == part.name);
    verify(PARTS.iter().filter(|part| fits(part.when, full)).filter(chosen))
}

fn fits(when: When, full: bool) -> bool {
    match when {
        When::Always => true,
        When::Usual => !full,
        When::Full => full,
    }
}

fn verify<'a>(parts: impl Iterator<Item = &'a Part>) -> ExitCode {
    let start = Instant::now();
    let (mut passed, mut failed, mut hopeless) = (0, 0, None);
    for part in parts {
        if let Some(vital) = hopeless {
            println!("{:<11} FAILED  not run after the failure of {vital}", part.name);
            failed += 1;
            continue;
        }
        let verdict = run(part);
        passed += verdict.passed;
        failed += verdict.failed;
        if part.vital && verdict.reason.is_some() {
            hopeless = Some(part.name);
        }
    }
    println!("{:<11} {:7.1} s", "in all", start.elapsed().as_secs_f64());
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(part: &Part) -> Verdict {
    print!("{:<11} ", part.name);
    let _ = std::io::stdout().flush();
    let start = Instant::now();
    let verdict = part.run();
    let seconds = start.elapsed().as_secs_f64();
    match &verdict.reason {
        None => println!("{seconds:7.1} s  {} passed", verdict.passed),
        Some(reason) => {
            println!("{seconds:7.1} s  FAILED: {reason}");
            print_end_of(part);
        }
    }
    verdict
}

/// The end of a failed part's output, and where all of it is.
fn print_end_of(part: &Part) {
    let Ok(bytes) = std::fs::read(part.log()) else { return };
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(40)..] {
        println!("  | {line}");
    }
    println!("  all of it is in {}", part.log().display());
}
