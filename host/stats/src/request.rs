//! A request over HTTP, as far as this server takes any, and the response to it.

use std::net::SocketAddr;

/// Longest head of a request.
const MOST_HEAD: usize = 8 << 10;

/// Most header lines of a request.
const MOST_HEADERS: usize = 64;

/// Longest body of a request.
const MOST_BODY: usize = 64 << 10;

/// Who reads at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Readers {
    /// The user alone.
    Owner,
    /// Those whom the user has let in; over TCP, everybody on this machine.
    Others,
}

/// A request that is whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) readers: Readers,
    pub(crate) method: &'a str,
    /// Without what follows a question mark.
    pub(crate) path: &'a str,
    pub(crate) body: &'a [u8],
}

/// The answer to a request.
pub(crate) struct Answer {
    /// With the number, and further header lines.
    pub(crate) status: &'static str,
    /// Its media type.
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn ok(kind: &'static str, body: String) -> Self {
        Answer { status: "200 OK", kind, body }
    }
}

/// Says what lies at a path; `None` for nothing.
pub(crate) trait Answers: Fn(Request<'_>) -> Option<Answer> {}

impl<T: Fn(Request<'_>) -> Option<Answer>> Answers for T {}

/// Where a request came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door {
    pub(crate) readers: Readers,
    pub(crate) over_tcp: bool,
}

/// The response to a request; `None` while that is not whole.
pub(crate) fn respond(received: &[u8], door: Door, answer: &dyn Answers) -> Option<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let head = match parsed.parse(received) {
        Ok(httparse::Status::Complete(head)) if head <= MOST_HEAD => head,
        Ok(httparse::Status::Partial) if received.len() < MOST_HEAD => return None,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            return Some(refusal("431 Request Header Fields Too Large"));
        }
        Err(_) => return Some(refusal("400 Bad Request")),
    };
    let header = |name: &str| {
        let mut found = parsed.headers.iter().filter(|it| it.name.eq_ignore_ascii_case(name));
        (found.next().map(|it| it.value), found.next().is_some())
    };
    let (host, _) = header("host");
    if door.over_tcp && host.is_some_and(|host| !is_this_machine(host)) {
        // A page in a browser may have a host name that resolves to this machine.
        return Some(refusal("403 Forbidden"));
    }
    let method = parsed.method.unwrap_or_default();
    let takes_bodies = door.readers == Readers::Owner && method == "POST";
    if method != "GET" && !takes_bodies {
        return Some(refusal("405 Method Not Allowed\r\nAllow: GET"));
    }
    let body = match takes_bodies {
        false => &[],
        true => {
            if header("transfer-encoding").0.is_some() {
                return Some(refusal("411 Length Required"));
            }
            let length = match header("content-length") {
                (None, _) => return Some(refusal("411 Length Required")),
                (Some(_), true) => return Some(refusal("400 Bad Request")),
                (Some(value), false) => match number(value) {
                    Some(length) if length <= MOST_BODY => length,
                    Some(_) => return Some(refusal("413 Content Too Large")),
                    None => return Some(refusal("400 Bad Request")),
                },
            };
            let body = received.get(head..).unwrap_or_default();
            // What follows the body is no further request: the connection closes.
            body.get(..length)?
        }
    };
    let path = parsed.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    Some(match answer(Request { readers: door.readers, method, path, body }) {
        Some(Answer { status, kind, body }) => response(status, kind, &body),
        None if method == "POST" => refusal("405 Method Not Allowed\r\nAllow: GET"),
        None => refusal("404 Not Found"),
    })
}

fn number(value: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // One that does not fit is certainly too long.
    is_plain.then(|| text.parse().unwrap_or(usize::MAX))
}

/// Whether a request was meant for an address of this machine.
fn is_this_machine(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let address = host.parse::<SocketAddr>().map(|address| address.ip());
    let address = address.or_else(|_| host.trim_matches(['[', ']']).parse());
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    address.is_ok_and(|ip| ip.is_loopback()) || name.eq_ignore_ascii_case("localhost")
}

fn refusal(status: &str) -> Vec<u8> {
    let text = status.lines().next().unwrap_or_default();
    response(status, "text/plain", &format!("{text}; there is /metrics\n"))
}

fn response(status: &str, kind: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str, over_tcp: bool) -> Option<String> {
        let door = Door { readers: Readers::Others, over_tcp };
        answered(request, door)
    }

    fn answered(request: &str, door: Door) -> Option<String> {
        let answer = |request: Request<'_>| {
            let body = String::from_utf8_lossy(request.body).into_owned();
            (request.path == "/stats").then(|| Answer::ok("text/plain", body))
        };
        let response = respond(request.as_bytes(), door, &answer)?;
        let response = String::from_utf8(response).unwrap();
        Some(response.lines().next().unwrap_or_default().replace("HTTP/1.1 ", ""))
    }

    #[test]
    fn requests_and_what_becomes_of_them() {
        let long = format!("GET /stats HTTP/1.1\r\nX: {}", "x".repeat(MOST_HEAD));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MOST_HEADERS + 1));
        for (request, expected) in [
            ("GET /stats HTTP/1.1\r\n\r\n", Some("200 OK")),
            ("GET /stats?x=1 HTTP/1.0\r\n\r\n", Some("200 OK")),
            ("GET /stats HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", Some("200 OK")),
            ("GET /stats HTTP/1.1\r\nhost: [::1]:1\r\n\r\n", Some("200 OK")),
            ("GET /stats HTTP/1.1\r\nHost: localhost:1\r\n\r\n", Some("200 OK")),
            ("GET /stats HTTP/1.1\r\nHost: evil.example:1\r\n\r\n", Some("403 Forbidden")),
            ("GET /etc/passwd HTTP/1.1\r\n\r\n", Some("404 Not Found")),
            ("POST /stats HTTP/1.1\r\n\r\n", Some("405 Method Not Allowed")),
            ("\x16\x03\x01\x02", Some("400 Bad Request")),
            (&long, Some("431 Request Header Fields Too Large")),
            (&many, Some("431 Request Header Fields Too Large")),
            ("GET /sta", None),
            ("GET /stats HTTP/1.1\r\n", None),
        ] {
            assert_eq!(status(request, true).as_deref(), expected, "{request}");
        }
        let named = "GET /stats HTTP/1.1\r\nHost: evil.example\r\n\r\n";
        assert_eq!(status(named, false).as_deref(), Some("200 OK"), "no browser gets there");
    }

    #[test]
    fn bodies_are_taken_from_the_owner_alone_and_up_to_a_limit() {
        let owner = Door { readers: Readers::Owner, over_tcp: false };
        let post = |headers: &str, body: &str| {
            answered(&format!("POST /stats HTTP/1.1\r\n{headers}\r\n{body}"), owner)
        };
        let check = |came: Option<String>, status: &str| {
            assert!(came.as_deref().is_some_and(|is| is.starts_with(status)), "{came:?} {status}");
        };
        check(post("Content-Length: 2\r\n", "{}"), "200");
        check(post("Content-Length: 2\r\n", "{}POST /stats HTTP/1.1\r\n\r\n"), "200");
        assert_eq!(post("Content-Length: 3\r\n", "{}"), None, "the rest is waited for");
        check(post("", "{}"), "411");
        check(post("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "{}"), "411");
        check(post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"), "400");
        for wrong in ["-1", "+2", "2x", "", "0x2"] {
            check(post(&format!("Content-Length: {wrong}\r\n"), "{}"), "400");
        }
        for long in ["65537", "99999999999999999999999"] {
            check(post(&format!("Content-Length: {long}\r\n"), "{}"), "413");
        }
        let others = Door { readers: Readers::Others, over_tcp: false };
        let request = "POST /stats HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}";
        check(answered(request, others), "405");
    }
}
