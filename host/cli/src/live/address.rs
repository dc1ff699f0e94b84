//! Where `--metrics` listens: this machine only.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// A loopback address or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.is_empty() {
                true => Err("a path must follow `unix:`".to_owned()),
                false => Ok(Address::Unix(path.into())),
            };
        }
        let address: SocketAddr = text.parse().map_err(|_| {
            "neither 127.0.0.1:PORT, [::1]:PORT nor unix:/PATH (names are not looked up)".to_owned()
        })?;
        match address.ip().is_loopback() {
            true => Ok(Address::Tcp(address)),
            false => Err(format!(
                "{} can be reached from other machines, and nothing here asks who reads; \
                 listen on 127.0.0.1, [::1] or unix:/PATH, and put a proxy before it",
                address.ip()
            )),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "http://{address}/metrics"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_may_listen() {
        for text in ["127.0.0.1:9100", "127.0.0.2:0", "[::1]:9100", "unix:/run/x"] {
            assert!(text.parse::<Address>().is_ok(), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused_with_the_reason() {
        for (text, reason) in [
            ("0.0.0.0:9100", "other machines"),
            ("[::]:9100", "other machines"),
            ("[::ffff:127.0.0.1]:9100", "other machines"),
            ("192.168.0.1:9100", "other machines"),
            ("localhost:9100", "names are not looked up"),
            ("127.0.0.1", "127.0.0.1:PORT"),
            ("9100", "127.0.0.1:PORT"),
            ("unix:", "path"),
            ("", "127.0.0.1:PORT"),
        ] {
            let refused = text.parse::<Address>().unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }
}
