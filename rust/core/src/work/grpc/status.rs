//! What a call that failed as a whole means for its records. Pure.

use std::time::Duration;

use prost::Message;
use tonic::{Code, ConnectError, Status, TimeoutExpired};

use super::messages::{Details, PROCESS, RetryInfo};
use crate::http::{SHOWN, cut, was_not_begun};
use crate::work::endpoint::Reply;
use crate::work::verdict::Verdict;

/// How servers say that a message is too large, under a code that else means that they are full.
const TOO_LARGE: [&str; 3] = ["larger than max", "exceeds maximum", "larger than the max"];
const PUSHBACK: &str = "grpc-retry-pushback-ms";
const RETRY_INFO: &str = "google.rpc.RetryInfo";

/// See the module.
pub fn read(status: &Status) -> Reply {
    if let Some(cause) = std::error::Error::source(status) {
        return unanswered(status, cause);
    }
    let detail = said(status);
    let reason = format!("Grpc{:?}", status.code());
    match status.code() {
        Code::ResourceExhausted if TOO_LARGE.iter().any(|text| detail.contains(text)) => {
            Reply::Failed(Verdict::dead_letter("GrpcTooLarge", detail))
        }
        Code::Unavailable | Code::ResourceExhausted => Reply::TurnedAway(after(status)),
        Code::DeadlineExceeded => Reply::Unanswered(Verdict::retry("Deadline", detail)),
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::NotFound
        | Code::AlreadyExists
        | Code::DataLoss => Reply::Failed(Verdict::dead_letter(reason, detail)),
        code @ (Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied) => {
            Reply::Stop(stop(code, &detail))
        }
        Code::Ok | Code::Cancelled | Code::Unknown | Code::Internal | Code::Aborted => {
            Reply::Failed(Verdict::retry(reason, detail))
        }
    }
}

/// Why no call can go well.
pub fn stop(code: Code, detail: &str) -> String {
    let fix = match code {
        Code::Unimplemented => {
            return format!(
                "it has no {} ({detail}); `kappaflow proto` writes the proto that it has to speak",
                PROCESS.trim_start_matches('/')
            );
        }
        Code::Unauthenticated => "it does not know who calls",
        _ => "it does not let the worker call it",
    };
    format!("{fix} ({code:?}: {detail}); look at service.grpc.metadata and cert_file")
}

/// The server said nothing: the connection did.
fn unanswered(status: &Status, cause: &(dyn std::error::Error + 'static)) -> Reply {
    let chain = || std::iter::successors(Some(cause), |cause| cause.source());
    if was_not_begun(cause) || chain().any(|cause| cause.is::<ConnectError>()) {
        return Reply::TurnedAway(None);
    }
    if chain().any(|cause| cause.is::<TimeoutExpired>()) {
        return Reply::Unanswered(Verdict::retry("Deadline", "no answer in time"));
    }
    Reply::Unanswered(Verdict::retry("GrpcBroken", innermost(status)))
}

/// What the innermost cause says: the outer ones say little.
pub fn innermost(status: &Status) -> String {
    let chain = std::iter::successors(std::error::Error::source(status), |cause| cause.source());
    match chain.last() {
        Some(cause) => cut(cause.to_string(), SHOWN),
        None => said(status),
    }
}

/// The beginning of what the server says.
pub fn said(status: &Status) -> String {
    match status.message() {
        "" => "it says no more".to_owned(),
        text => cut(text.to_owned(), SHOWN),
    }
}

/// How long the service asks to be left alone: by `grpc-retry-pushback-ms`, or by `RetryInfo` in the details.
fn after(status: &Status) -> Option<Duration> {
    let pushback = status.metadata().get(PUSHBACK);
    let pushback = pushback.and_then(|ms| ms.to_str().ok()?.trim().parse().ok());
    if let Some(ms) = pushback {
        return Some(Duration::from_millis(ms));
    }
    let details = Details::decode(status.details()).ok()?.details;
    let info = details.iter().find(|d| d.type_url.ends_with(RETRY_INFO))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let seconds = u64::try_from(delay.seconds).ok()?;
    let nanos = u32::try_from(delay.nanos).ok()?.min(999_999_999);
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::super::messages::{Any, Delay};
    use super::*;

    fn word(reply: Reply) -> (&'static str, String) {
        match reply {
            Reply::Each(_) => ("each", String::new()),
            Reply::Failed(Verdict::Retry { reason, .. }) => ("retry", reason),
            Reply::Failed(Verdict::DeadLetter { reason, .. }) => ("dead", reason),
            Reply::Unanswered(Verdict::Retry { reason, .. }) => ("unanswered", reason),
            Reply::Failed(_) | Reply::Unanswered(_) => ("other", String::new()),
            Reply::TurnedAway(after) => ("busy", format!("{after:?}")),
            Reply::Stop(reason) => ("stop", reason),
        }
    }

    #[test]
    fn a_status_means_what_grpc_says() {
        for (code, what, reason) in [
            (Code::Unavailable, "busy", "None"),
            (Code::ResourceExhausted, "busy", "None"),
            (Code::DeadlineExceeded, "unanswered", "Deadline"),
            (Code::InvalidArgument, "dead", "GrpcInvalidArgument"),
            (Code::FailedPrecondition, "dead", "GrpcFailedPrecondition"),
            (Code::NotFound, "dead", "GrpcNotFound"),
            (Code::OutOfRange, "dead", "GrpcOutOfRange"),
            (Code::Unknown, "retry", "GrpcUnknown"),
            (Code::Internal, "retry", "GrpcInternal"),
            (Code::Cancelled, "retry", "GrpcCancelled"),
            (Code::Aborted, "retry", "GrpcAborted"),
        ] {
            let found = word(read(&Status::new(code, "why")));
            assert_eq!(found, (what, reason.to_owned()), "{code:?}");
        }
        for (code, told) in [
            (
                Code::Unimplemented,
                "it has no kappaflow.service.v1.Records/Process (why)",
            ),
            (Code::Unauthenticated, "does not know who calls (Unauth"),
            (Code::PermissionDenied, "does not let the worker call it"),
        ] {
            let (what, reason) = word(read(&Status::new(code, "why")));
            assert!(what == "stop" && reason.contains(told), "{reason}");
        }
    }

    #[test]
    fn a_message_that_is_too_large_is_no_sign_of_a_full_server() {
        let text = "SERVER: Received message larger than max (5000000 vs. 4194304)";
        let found = word(read(&Status::resource_exhausted(text)));
        assert_eq!(found, ("dead", "GrpcTooLarge".into()));
    }

    #[test]
    fn a_service_may_say_for_how_long() {
        let mut metadata = MetadataMap::new();
        metadata.insert(PUSHBACK, "1500".parse().unwrap());
        let status = Status::with_metadata(Code::Unavailable, "", metadata);
        assert_eq!(after(&status), Some(Duration::from_millis(1_500)));
        let delay = |seconds, nanos| {
            let delay = Delay { seconds, nanos };
            let info = RetryInfo {
                retry_delay: Some(delay),
            };
            let any = Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
                value: info.encode_to_vec(),
            };
            let details = Details { details: vec![any] }.encode_to_vec();
            after(&Status::with_details(Code::Unavailable, "", details.into()))
        };
        assert_eq!(delay(2, 500_000_000), Some(Duration::from_millis(2_500)));
        assert_eq!(delay(-1, 0), None);
        assert_eq!(delay(1, -5), None);
        let junk = vec![0xff; 9].into();
        assert_eq!(
            after(&Status::with_details(Code::Unavailable, "", junk)),
            None
        );
    }
}
