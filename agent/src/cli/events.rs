//! `primacy events`: what happened at a member lately, and what happens.

use super::{Code, EventsArgs, Failure, find, http, printed, settings};
use http_body_util::BodyExt;
use serde_json::Value;
use std::io::Write;
use std::ops::ControlFlow;

pub(super) async fn events(args: &EventsArgs) -> Result<(), Failure> {
    let settings = settings(&args.cluster.config)?;
    let address = match &args.member {
        None => settings.rest.connect.to_string(),
        Some(name) => {
            let found = find(&settings).await?;
            let address = found.contents.members.get(name).and_then(|member| member.api_address());
            address.ok_or_else(|| Failure(Code::NotDone, format!("{name} is not there")))?
        }
    };
    each(&address, &format!("follow={}", args.follow), |line| {
        let shown = if args.json { line.to_owned() } else { for_people(line) };
        // A reader that has read enough ends this, which has no end of its own.
        match writeln!(std::io::stdout(), "{shown}") {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(error) => printed(Err(error)).map(ControlFlow::Break),
        }
    })
    .await
}

/// Hands each event of a member, a line of JSON, to `take`, until that wants no more.
pub(super) async fn each(
    address: &str,
    query: &str,
    mut take: impl FnMut(&str) -> Result<ControlFlow<()>, Failure>,
) -> Result<(), Failure> {
    let failed = |error: http::Error| match error {
        http::Error::NotSent(why) => Failure(Code::Unreachable, format!("{address}: {why}")),
        http::Error::Unknown(why) => Failure(Code::NotDone, format!("{address}: {why}")),
    };
    let response = http::get(address, &format!("/events?{query}")).await.map_err(failed)?;
    let code = response.status();
    let (mut body, mut lines) = (response.into_body(), Lines::default());
    if !code.is_success() {
        let text = body.collect().await.map(|text| text.to_bytes()).unwrap_or_default();
        return Err(Failure(Code::NotDone, format!("{address}: {code}: {}", String::from_utf8_lossy(&text))));
    }
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Failure(Code::NotDone, format!("{address}: the stream ended: {error}")))?;
        for line in lines.add(frame.data_ref().map_or(&[], |data| data)) {
            if take(&line)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Puts pieces together to lines.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// The lines that are whole now.
    fn add(&mut self, piece: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(piece);
        let whole = self.0.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = self.0.drain(..whole).collect();
        String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect()
    }
}

/// When, and what. What makes no sense here is shown as it is.
pub(super) fn for_people(line: &str) -> String {
    let event: Value = serde_json::from_str(line).unwrap_or_default();
    match (event["at"].as_str(), event["sentence"].as_str()) {
        (Some(at), Some(sentence)) => format!("{at}  {sentence}"),
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_pieces() {
        let mut lines = Lines::default();
        assert_eq!(lines.add(b"one\ntw"), ["one"]);
        assert!(lines.add(b"").is_empty());
        assert_eq!(lines.add(b"o\nthree\n"), ["two", "three"]);
        let split = "ä\n".as_bytes().split_at(1);
        assert!(lines.add(split.0).is_empty());
        assert_eq!(lines.add(split.1), ["ä"]);
    }

    #[test]
    fn people_see_when_and_what() {
        let line =
            r#"{"id": 7, "at": "then", "kind": "stopped", "sentence": "has stopped in order", "fields": {}}"#;
        assert_eq!(for_people(line), "then  has stopped in order");
        assert_eq!(for_people("garbage"), "garbage");
    }
}
