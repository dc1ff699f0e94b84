//! From a request to what it asks for.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::controls::{Action, Job};
use super::messages::{Log, Record};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Asked {
    Vm,
    Act(Action),
    Begin(Job),
    Operation(u64),
}

/// A request that control understands, or a refusal with its status.
pub(crate) type Routed = Result<Asked, (&'static str, String)>;

/// Longest text of a request that an error repeats.
const LONGEST: usize = 200;

/// What a request below `/v1/` asks for.
pub(crate) fn route(method: &str, path: &str, body: &[u8]) -> Routed {
    let get = |asked| match method {
        "GET" => Ok(asked),
        _ => Err(("405 Method Not Allowed\r\nAllow: GET", "this path takes GET".to_owned())),
    };
    if path == "vm" {
        return get(Asked::Vm);
    }
    if let Some(id) = path.strip_prefix("operations/") {
        let unknown = || ("404 Not Found", "there is no such operation".to_owned());
        return get(Asked::Operation(id.parse().map_err(|_| unknown())?));
    }
    let known = [
        "swap",
        "rollback",
        "disable",
        "enable",
        "pause",
        "resume",
        "reset",
        "stop",
        "powerdown",
        "record",
        "log",
    ];
    if !known.contains(&path) {
        return Err((
            "404 Not Found",
            format!("there are vm, operations/ID, {}", known.join(", ")),
        ));
    }
    if method != "POST" {
        return Err(("405 Method Not Allowed\r\nAllow: POST", "this path takes POST".to_owned()));
    }
    Ok(match path {
        "swap" => Asked::Begin(Job::Swap(read(body)?)),
        "rollback" => Asked::Begin(empty(body, Job::Rollback)?),
        "record" => Asked::Begin(Job::Record(one_of(read(body)?)?)),
        "disable" => Asked::Act(Action::Disable(read(body)?)),
        "enable" => Asked::Act(Action::Enable(read(body)?)),
        "log" => Asked::Act(Action::Log(read::<Log>(body)?.level)),
        "pause" => Asked::Act(empty(body, Action::Pause)?),
        "resume" => Asked::Act(empty(body, Action::Resume)?),
        "reset" => Asked::Act(empty(body, Action::Reset)?),
        "stop" => Asked::Act(empty(body, Action::Stop)?),
        _ => Asked::Act(empty(body, Action::PowerDown)?),
    })
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, (&'static str, String)> {
    // The library takes a list for a structure.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(("422 Unprocessable Content", "the body is not a JSON object".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| {
        let text: String = error.to_string().chars().take(LONGEST).collect();
        ("422 Unprocessable Content", format!("the body is not what this path takes: {text}"))
    })
}

/// A path that takes nothing: no body, or an empty object.
fn empty<T>(body: &[u8], asked: T) -> Result<T, (&'static str, String)> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    if !body.is_empty() {
        let Nothing {} = read(body)?;
    }
    Ok(asked)
}

fn one_of(record: Record) -> Result<Record, (&'static str, String)> {
    let given = [record.file.is_some(), record.off, record.dump];
    let is_right = given.into_iter().filter(|given| *given).count() == 1
        && (record.limit.is_none() || record.file.is_some());
    let wrong = "give `file`, perhaps with `limit`, or `off`, or `dump`";
    is_right.then_some(record).ok_or_else(|| ("422 Unprocessable Content", wrong.to_owned()))
}

/// The body of an error.
pub(crate) fn error(text: &str) -> String {
    json!({ "error": text }).to_string()
}

/// The body of an answer.
pub(crate) fn body(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|failed| error(&failed.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::messages::{Answer, Disable};
    use super::*;

    #[test]
    fn requests_are_understood() {
        let disable = Disable { plugin: "p".into(), answer: Answer::Kernel };
        let body = br#"{"plugin":"p","answer":"kernel"}"#;
        assert_eq!(route("POST", "disable", body), Ok(Asked::Act(Action::Disable(disable))));
        assert_eq!(route("POST", "pause", b""), Ok(Asked::Act(Action::Pause)));
        assert_eq!(route("POST", "pause", b"{}"), Ok(Asked::Act(Action::Pause)));
        assert_eq!(route("GET", "vm", b""), Ok(Asked::Vm));
        assert_eq!(route("GET", "operations/7", b""), Ok(Asked::Operation(7)));
        assert!(matches!(route("POST", "swap", b"{}"), Ok(Asked::Begin(Job::Swap(_)))));
    }

    #[test]
    fn what_is_wrong_with_a_request_is_said() {
        for (method, path, body, status) in [
            ("GET", "swap", "", "405"),
            ("POST", "vm", "", "405"),
            ("GET", "nothing", "", "404"),
            ("GET", "operations/x", "", "404"),
            ("POST", "swap", "", "422"),
            ("POST", "swap", "{\"profle\":\"x\"}", "422"),
            ("POST", "disable", "{\"plugin\":\"p\",\"answer\":\"stop\"}", "422"),
            ("POST", "pause", "{\"x\":1}", "422"),
            ("POST", "pause", "[[[[[[[[", "422"),
            ("POST", "swap", " []", "422"),
            ("POST", "record", "{}", "422"),
            ("POST", "record", "{\"off\":true,\"dump\":true}", "422"),
            ("POST", "record", "{\"off\":true,\"limit\":5}", "422"),
        ] {
            let (is, text) = route(method, path, body.as_bytes()).unwrap_err();
            assert!(is.starts_with(status), "{method} {path} {body}: {is}, {text}");
        }
    }
}
