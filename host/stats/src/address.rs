//! Where metrics are offered beside the VM's own socket: on this machine only.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// A loopback address or a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A port of this machine; 0 stands for any that is free.
    Tcp(SocketAddr),
    /// The path of a socket.
    Unix(PathBuf),
}

/// A text that is not an [`Address`], or not one of this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing follows `unix:`.
    #[error("a path must follow `unix:`")]
    NoPath,
    /// It has none of the forms.
    #[error("neither 127.0.0.1:PORT, [::1]:PORT nor unix:/PATH (names are not looked up)")]
    Form,
    /// Other machines can reach it.
    #[error(
        "other machines can reach {0}, and the server has no access control; listen on 127.0.0.1, \
         [::1] or unix:/PATH, and put a proxy in front of it"
    )]
    Exposed(IpAddr),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.is_empty() {
                true => Err(AddressError::NoPath),
                false => Ok(Address::Unix(path.into())),
            };
        }
        let address: SocketAddr = text.parse().map_err(|_| AddressError::Form)?;
        match address.ip().is_loopback() {
            true => Ok(Address::Tcp(address)),
            false => Err(AddressError::Exposed(address.ip())),
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
            let refused = text.parse::<Address>().unwrap_err().to_string();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }
}
