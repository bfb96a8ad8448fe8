//! Where events are sent: the URL of a server, read once.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use hyper::Uri;

/// A server, and the path below which it has the routes of this service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    authority: String,
    prefix: String,
}

impl Target {
    /// The head of a request, up to the value of its content-length.
    #[must_use]
    pub fn post_head(&self, path: &str, content_type: &str) -> Vec<u8> {
        let Self { authority, prefix, .. } = self;
        format!(
            "POST {prefix}{path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: lockstream-simulate/{}\r\n\
             content-type: {content_type}\r\ncontent-length: ",
            env!("CARGO_PKG_VERSION")
        )
        .into_bytes()
    }
}

impl From<SocketAddr> for Target {
    /// A server that listens everywhere is spoken to on this machine.
    fn from(addr: SocketAddr) -> Self {
        let ip = match addr.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let authority = SocketAddr::new(ip, addr.port()).to_string();
        Self { host: ip.to_string(), port: addr.port(), authority, prefix: String::new() }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || "must look like http://HOST:PORT or http://HOST:PORT/PATH".to_owned();
        let uri: Uri = text.parse().map_err(|_| shape())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err("HTTPS is not spoken here: send to the port behind the TLS proxy".into()),
            _ => return Err(shape()),
        }
        let authority = uri.authority().filter(|_| uri.query().is_none()).ok_or_else(shape)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(shape());
        }
        let port = authority.port_u16().unwrap_or(80);
        Ok(Self { host, port, authority: authority.to_string(), prefix: uri.path().trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_host_port_and_what_the_paths_begin_with() {
        for (text, host, port, shown) in [
            ("http://localhost:8000", "localhost", 8000, "http://localhost:8000"),
            ("http://lockers.example", "lockers.example", 80, "http://lockers.example"),
            ("http://[::1]:81/", "::1", 81, "http://[::1]:81"),
            ("http://10.0.0.1:8000/lockstream/", "10.0.0.1", 8000, "http://10.0.0.1:8000/lockstream"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.host.as_str(), target.port, target.to_string().as_str()), (host, port, shown));
        }
        let target: Target = "http://10.0.0.1:8000/lockstream/".parse().unwrap();
        let head = String::from_utf8(target.post_head("/events", "application/json")).unwrap();
        assert!(head.starts_with("POST /lockstream/events HTTP/1.1\r\nhost: 10.0.0.1:8000\r\n"), "{head}");
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        for text in ["", "localhost:8000", "https://h", "ftp://h", "http://", "http://u:p@h", "http://h/?a", "/events"]
        {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_that_listens_everywhere_is_spoken_to_here() {
        for (addr, shown) in [("0.0.0.0:8000", "http://127.0.0.1:8000"), ("[::]:8000", "http://[::1]:8000")] {
            assert_eq!(Target::from(addr.parse::<SocketAddr>().unwrap()).to_string(), shown);
        }
    }
}
